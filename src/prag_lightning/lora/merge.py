"""Merging adapters, and stacking merged ones into a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft.utils.merge_utils import ties
from torch import Tensor
from torch.nn.functional import pad

from prag_lightning.lora.names import LoraA, Merge
from prag_lightning.lora.stack import LoraWeights

TIES_DENSITY = 0.5
"""The share of an adapter's values that `ties` keeps."""


def merge(
    adapters: Sequence[LoraWeights], method: Merge = "sum", scores: Sequence[float] = (), *, lora_a: LoraA = "trained"
) -> LoraWeights:
    """One LoRA of several, to be scaled as each of them is.

    Args:
        adapters: At least one, best ranked first; A `[r, d_in]` and B `[d_out, r]` a module, of the same modules and
            rank in each.
        method: See `Merge`.
        scores: Of the passages, for the method of that name; without any all count alike.
        lora_a: Where it is shared, the B add up.

    Returns:
        A LoRA whose rank is the sum of the adapters' ranks, or for `ties` and a shared A that of one.
    """
    if method == "ties" and len(adapters) > 1:
        return {name: _ties([adapter[name] for adapter in adapters]) for name in adapters[0]}
    if method == "orthogonal":
        adapters = _orthogonalised(adapters)
    merged = _summed([adapters], [_weights(method, len(adapters), scores)], lora_a)
    return {name: (lora_a[0], lora_b[0]) for name, (lora_a, lora_b) in merged.items()}


def _weights(method: Merge, count: int, scores: Sequence[float]) -> list[float]:
    if method == "mean":
        return [1.0 / count] * count
    best = max(scores, default=0.0)
    return [score / best for score in scores] if method == "score" and best > 0 else [1.0] * count


def _ties(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    ones = torch.ones(len(pairs), dtype=torch.float32)
    merged_a, merged_b = (ties([pair[i] for pair in pairs], ones, TIES_DENSITY) for i in (0, 1))
    return merged_a, merged_b


def _orthogonalised(adapters: Sequence[LoraWeights]) -> list[LoraWeights]:
    """The adapters, each B `[d_out, r]` without its part in the span of the columns of those before it."""
    result: list[LoraWeights] = []
    spans: dict[str, Tensor] = {}
    for adapter in adapters:
        freed = {}
        for name, (lora_a, lora_b) in adapter.items():
            span = spans.get(name)
            if span is not None:
                lora_b = lora_b - span @ (span.T @ lora_b)
            freed[name] = (lora_a, lora_b)
            basis = torch.linalg.qr(lora_b).Q if lora_b.any() else lora_b
            spans[name] = basis if span is None else torch.cat([span, basis], dim=1)
        result.append(freed)
    return result


def merge_all(
    questions: Sequence[Sequence[LoraWeights]],
    method: Merge = "sum",
    scores: Sequence[Sequence[float]] = (),
    *,
    lora_a: LoraA = "trained",
) -> LoraWeights:
    """What `stack` gives of each question's merged adapter. Where all have as many and merging is a sum, they are not
    merged one after the other.

    Args:
        questions: The adapters of each, at least one; all of one rank.
        method: See `Merge`.
        scores: Of each question's passages, for the method of that name.
        lora_a: See `merge`.
    """
    counts = {len(adapters) for adapters in questions}
    scores = scores or [()] * len(questions)
    if method not in ("sum", "mean", "score") or len(counts) > 1:
        return stack(
            [merge(adapters, method, own, lora_a=lora_a) for adapters, own in zip(questions, scores, strict=True)]
        )
    weights = [_weights(method, len(adapters), own) for adapters, own in zip(questions, scores, strict=True)]
    return _summed(questions, weights, lora_a)


def _summed(
    questions: Sequence[Sequence[LoraWeights]], weights: Sequence[Sequence[float]], lora_a: LoraA
) -> LoraWeights:
    """The weighted sums of the updates of each question's adapters, of which all have as many, as a stack."""
    adapters = [adapter for own in questions for adapter in own]
    factors = torch.tensor(weights, dtype=torch.float32)
    weighted = bool((factors != 1.0).any())
    merged = {}
    for name in adapters[0]:
        each_a, each_b = (torch.stack([adapter[name][i] for adapter in adapters]) for i in (0, 1))
        by_rank = each_b.reshape(*factors.shape, *each_b.shape[1:]).mT
        if weighted:
            by_rank = by_rank * factors[:, :, None, None]
        if lora_a == "shared":
            merged[name] = each_a[: len(questions)], by_rank.sum(1).contiguous().mT
        else:
            merged[name] = each_a.reshape(len(questions), -1, each_a.shape[-1]), by_rank.flatten(1, 2).contiguous().mT
    return merged


def stack(adapters: Sequence[LoraWeights]) -> LoraWeights:
    """G adapters side by side, `[G, r, d_in]` and `[G, d_out, r]`, laid out as `LoraWeights` says; lower ranks are
    filled with zeros, which change nothing."""
    return {
        name: (
            _stack([adapter[name][0] for adapter in adapters]),
            _stack([adapter[name][1].T for adapter in adapters]).mT,
        )
        for name in adapters[0]
    }


def _stack(matrices: list[Tensor]) -> Tensor:
    """Matrices `[r, d]` as `[G, most r, d]`."""
    rank = max(len(matrix) for matrix in matrices)
    return torch.stack([pad(matrix, (0, 0, 0, rank - len(matrix))) for matrix in matrices])
