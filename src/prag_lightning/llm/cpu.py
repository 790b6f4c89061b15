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

FLOAT32_ATTENTION = "sdpa_float32"
_FEW_ROWS = 128
"""Of 256 and more, both ways are as fast."""
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


def _float32_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """PyTorch's attention in float32, whatever the precision of its inputs."""
    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.float()
    output, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **options)
    return output.to(query.dtype), None


def use_float32_attention(model: Any) -> None:
    """Let a model of lower precision attend in float32: on a CPU PyTorch's kernel is several times faster there, and
    more exact."""
    if getattr(model.config, "_attn_implementation", None) == "sdpa" and model.dtype != torch.float32:
        AttentionInterface.register(FLOAT32_ATTENTION, _float32_attention)
        AttentionMaskInterface.register(FLOAT32_ATTENTION, sdpa_mask)
        model.set_attn_implementation(FLOAT32_ATTENTION)


def use_cpu_products(model: nn.Module) -> None:
    """Let a model's linear layers multiply few rows the other way round where nothing is learnt: PyTorch's product is
    up to twice as fast so, for matrices that have to come from memory."""
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
