"""Merging adapters, and stacking merged ones into a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from prag_lightning.lora.stack import LoraWeights


def concatenate(adapters: Sequence[LoraWeights]) -> LoraWeights:
    """One LoRA of rank `sum of ranks` whose update is the sum of the adapters' (paper section 3.3; PEFT calls it
    `cat`).

    Args:
        adapters: At least one; A `[r, d_in]` and B `[d_out, r]` a module, the same modules in each.
    """
    return {
        name: (
            torch.cat([adapter[name][0] for adapter in adapters], dim=0),
            torch.cat([adapter[name][1] for adapter in adapters], dim=1),
        )
        for name in adapters[0]
    }


def stack(adapters: Sequence[LoraWeights], device: torch.device | str | None = None) -> LoraWeights:
    """G adapters side by side, `[G, r, d_in]` and `[G, d_out, r]`; lower ranks are filled with zeros, which change
    nothing."""
    return {
        name: (
            _stack([adapter[name][0] for adapter in adapters], dim=0).to(device),
            _stack([adapter[name][1] for adapter in adapters], dim=1).to(device),
        )
        for name in adapters[0]
    }


def _stack(matrices: list[Tensor], dim: int) -> Tensor:
    rank = max(matrix.shape[dim] for matrix in matrices)
    padded = []
    for matrix in matrices:
        missing = rank - matrix.shape[dim]
        padded.append(pad(matrix, (0, 0, 0, missing) if dim == 0 else (0, missing)) if missing else matrix)
    return torch.stack(padded)
