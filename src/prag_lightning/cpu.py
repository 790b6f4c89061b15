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
