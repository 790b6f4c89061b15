"""What makes a CPU faster at large tensors."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

CPU_ATTENTION = "sdpa_cpu"
_FEW_ROWS = 128
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for its next large tensors.

    The C library otherwise gives each back to the system, which clears its pages when they are asked for again: a fifth
    of the time of a large group's training, and more in a process that has run for long. Where the C library is not
    GNU's nothing is changed.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_TOP_PAD, 2**26)


def use_cpu_attention(model: Any) -> None:
    """Let a model that attends by PyTorch's kernel attend in float32, which on a CPU is several times faster than in
    lower precision, and more exact; and a single token in fewer steps than that kernel takes."""
    if getattr(model.config, "_attn_implementation", None) == "sdpa":
        AttentionInterface.register(CPU_ATTENTION, _attention)
        AttentionMaskInterface.register(CPU_ATTENTION, sdpa_mask)
        model.set_attn_implementation(CPU_ATTENTION)


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """What transformers' own attention gives, in the precision of its inputs; see there for their shapes."""
    mask = (
        attention_mask.float() if attention_mask is not None and attention_mask.is_floating_point() else attention_mask
    )
    inputs = query.float(), key.float(), value.float(), mask
    if query.shape[2] == 1 and (mask is None or (mask.is_floating_point() and mask.shape[1] == 1)):
        output = _attention_of_one(*inputs, options["scaling"])
    else:
        output, _ = sdpa_attention_forward(module, *inputs, **options)
    return output.to(query.dtype), None


def _attention_of_one(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """`softmax(scaling q k^T + mask) v` of one token a row, `[N, 1, heads, size]`: the heads that share a key are its
    queries."""
    rows, heads, _, size = query.shape
    groups, length = key.shape[1:3]
    asked = query.reshape(rows * groups, heads // groups, size)
    scores = torch.baddbmm(query.new_empty(()), asked, key.flatten(0, 1).mT, beta=0, alpha=scaling)
    if mask is not None:
        scores.view(rows, heads, length).add_(mask[:, 0])
    return torch.bmm(scores.softmax(-1), value.flatten(0, 1)).view(rows, 1, heads, -1)


def use_cpu_products(model: nn.Module) -> None:
    """Let a model's linear layers multiply few rows the other way round where nothing is to be learnt: writing a token
    for 16 rows is 1.2 to 1.5 times as fast with 26M parameters and more."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = _Linear


class _Linear(nn.Linear):
    """`y = x W^T + b`, for few rows as `(W x^T)^T + b`."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.numel() // self.in_features
        if torch.is_grad_enabled() or not 1 < rows <= _FEW_ROWS or x.dtype != torch.float32:
            return super().forward(x)
        y = torch.mm(self.weight, x.reshape(rows, -1).T).T.contiguous().view(*x.shape[:-1], -1)
        return y if self.bias is None else y.add_(self.bias)
