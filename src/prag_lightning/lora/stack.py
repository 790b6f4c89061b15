"""Many LoRAs over one frozen model: every row of a batch goes through the adapter of its own passage or question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from prag_lightning.errors import InputError
from prag_lightning.lora.names import DEFAULT_TARGETS

LoraWeights = Mapping[str, tuple[Tensor, Tensor]]
"""Module name -> (A, B): `[r, d_in]`, `[d_out, r]` for one adapter, `[G, r, d_in]`, `[G, d_out, r]` for a stack of
G, in float32. A stack's B should lie in memory as `[G, r, d_out]`: a CPU multiplies by two rows several times faster
than by two columns."""

LINEAR = (nn.Linear, Conv1D)
"""Layers that can carry adapters; Conv1D is GPT-2's, and has its matrix the other way round."""


class StackedLinear(nn.Module):
    """A frozen linear layer plus G LoRAs: row n of the batch goes through adapter `n // (N / G)`.

    With no adapters set it computes what the linear layer computes.

    Args:
        base: The frozen layer, `d_in -> d_out`.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.lora: tuple[Tensor, Tensor] | None = None
        self.scaling = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """`y = W x + scaling * B_g (A_g x)` for `x` `[N, T, d_in]`, giving `[N, T, d_out]` (LoRA, arXiv 2106.09685,
        eq. 3)."""
        y: Tensor = self.base(x)
        if self.lora is None:
            return y
        lora_a, lora_b = (weight.to(y.dtype) for weight in self.lora)
        adapters = lora_a.shape[0]
        x_by_adapter = x.to(y.dtype).reshape(adapters, -1, x.shape[-1])
        low_rank = torch.bmm(x_by_adapter, lora_a.mT)
        y_by_adapter = y.reshape(adapters, -1, y.shape[-1])
        # Going back, a CPU multiplies by two rows several times faster than by two columns.
        by_rank = lora_b.mT.contiguous() if lora_b.requires_grad else lora_b.mT
        return y_by_adapter.baddbmm_(low_rank, by_rank, alpha=self.scaling).view_as(y)


class LoraStack:
    """The places for LoRAs in a model. Attaching wraps its target layers once; adapters then come and go as tensors.

    Args:
        model: Its parameters are frozen. It keeps computing the same until adapters are set.
        targets: Last parts of the names of the linear layers that carry adapters.

    Raises:
        InputError: if no linear layer of the model has such a name.
    """

    def __init__(self, model: nn.Module, targets: Sequence[str] = DEFAULT_TARGETS) -> None:
        self.model = model
        self.targets = tuple(targets)
        model.requires_grad_(False)
        found = {
            name: module
            for name, module in model.named_modules()
            if name.rsplit(".", 1)[-1] in self.targets and isinstance(module, LINEAR)
        }
        missing = [target for target in self.targets if not any(name.endswith(target) for name in found)]
        if missing:
            linears = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, LINEAR)}
            raise InputError(
                f"the model has no linear layer named {', '.join(map(repr, missing))}",
                where="model.target_modules",
                hint=f"It has {', '.join(sorted(linears))}",
            )
        self.layers = {name: StackedLinear(module) for name, module in found.items()}
        self._sizes = {name: _sizes(module) for name, module in found.items()}
        for name, layer in self.layers.items():
            _replace(model, name, layer)

    def of_copy(self, model: nn.Module) -> LoraStack:
        """The same places in a copy of the model."""
        other = copy(self)
        other.model = model
        other.layers = {name: cast(StackedLinear, model.get_submodule(name)) for name in self.layers}
        return other

    def detach(self) -> None:
        """Give the model its own layers back; the stack is of no use after."""
        for name, layer in self.layers.items():
            _replace(self.model, name, layer.base)

    def set(self, weights: LoraWeights, scaling: float) -> None:
        """Send batch rows through the G adapters stacked in `weights`; a batch's N rows divide evenly among them.

        Raises:
            ValueError: if `weights` is not for exactly this model's layers.
        """
        if weights.keys() != self.layers.keys():
            raise ValueError("the adapters are not for this model's layers")
        for name, layer in self.layers.items():
            layer.lora, layer.scaling = weights[name], scaling

    def clear(self) -> None:
        """Take all adapters out: the model computes as it did before."""
        for layer in self.layers.values():
            layer.lora = None

    def shapes(self, rank: int) -> dict[str, tuple[tuple[int, int], tuple[int, int]]]:
        """Shapes of one adapter's A and B of `rank`, by module name."""
        return {name: ((rank, d_in), (d_out, rank)) for name, (d_in, d_out) in self._sizes.items()}


def _sizes(module: nn.Module) -> tuple[int, int]:
    """How many values go into a linear layer, and how many come out."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    d_in, d_out = module.get_parameter("weight").shape
    return d_in, d_out


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, layer)
