"""Adapters in an eighth of the space: the difference from `base_weight` at four bits a value.

Training moves an adapter little from where it starts, so what is kept is the way, not the place: each rank's row of
A - A0 and column of B - B0 as whole numbers from -7 to 7 times a scale of its own, two numbers a byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from prag_lightning.lora.stack import LoraWeights

_LARGEST = 7
VALUES, SCALES = "values", "scales"


def compress(weights: LoraWeights, base_weight: LoraWeights) -> dict[str, Tensor]:
    """An adapter as two tensors: `values` uint8 `[ceil(n / 2)]` of its n parameters, `scales` float32 `[2 r]` a module.

    Args:
        weights: The adapter.
        base_weight: The one that its training started from.
    """
    numbers, scales = [], []
    for way in _deltas(weights, base_weight):
        scale = (way.abs().amax(dim=1, keepdim=True) / _LARGEST).clamp_min(torch.finfo(torch.float32).tiny)
        numbers.append((way / scale).round().to(torch.int8).flatten() + 8)
        scales.append(scale.flatten())
    flat = torch.cat(numbers).to(torch.uint8)
    flat = torch.cat([flat, flat.new_zeros(len(flat) % 2)])
    return {VALUES: flat[::2] | flat[1::2] << 4, SCALES: torch.cat(scales)}


def expand(tensors: Mapping[str, Tensor], base_weight: LoraWeights) -> LoraWeights:
    """The adapter that was compressed, in float32.

    Raises:
        ValueError: if the tensors are not of an adapter of this `base_weight`.
    """
    values, scales = tensors[VALUES], tensors[SCALES]
    if (values.dtype, scales.dtype) != (torch.uint8, torch.float32):
        raise ValueError(f"it holds {values.dtype} and {scales.dtype}")
    ranks = [way.shape for way in _deltas(base_weight, base_weight)]
    parameters = sum(shape.numel() for shape in ranks)
    if values.numel() != (parameters + 1) // 2 or scales.numel() != sum(shape[0] for shape in ranks):
        raise ValueError(f"it holds {2 * values.numel()} values where {parameters} are needed")
    numbers = torch.stack([values & 15, values >> 4], dim=1).flatten()[:parameters].float() - 8
    ways: list[Tensor] = []
    for shape in ranks:
        scale, scales = scales[: shape[0], None].float(), scales[shape[0] :]
        way, numbers = numbers[: shape.numel()].view(shape), numbers[shape.numel() :]
        ways.append(way * scale)
    places = zip(sorted(base_weight), ways[::2], ways[1::2], strict=True)
    return {
        name: (base_weight[name][0].float() + way_a, base_weight[name][1].float() + way_b.T)
        for name, way_a, way_b in places
    }


def _deltas(weights: LoraWeights, base_weight: LoraWeights) -> Iterator[Tensor]:
    """A - A0 `[r, d_in]` and (B - B0) transposed `[r, d_out]`, module by module in order of their names."""
    for name in sorted(base_weight):
        (lora_a, lora_b), (start_a, start_b) = weights[name], base_weight[name]
        yield lora_a.float() - start_a.float()
        yield (lora_b.float() - start_b.float()).T
