"""How passages reach the LLM when a question is asked. No torch."""

from __future__ import annotations

from typing import Literal, get_args

InferenceMethod = Literal["vanilla", "icl", "prag", "combine"]
"""`vanilla`: the question alone. `icl`: passages in the prompt. `prag`: their adapters in the weights. `combine`:
both (paper section 3.4)."""

INFERENCE_METHODS: tuple[str, ...] = get_args(InferenceMethod)


def uses_passages(method: str) -> bool:
    """Whether a method puts the passages into the prompt."""
    return method in ("icl", "combine")


def uses_adapters(method: str) -> bool:
    """Whether a method merges the passages' adapters into the weights."""
    return method in ("prag", "combine")
