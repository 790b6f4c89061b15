"""Questions into answers: greedy decoding in batches, each row with its own merged adapters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from prag_lightning.llm import LLM
from prag_lightning.lora.merge import stack
from prag_lightning.lora.stack import LoraWeights

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


@torch.inference_mode()
def generate(
    llm: LLM,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    adapters: Sequence[LoraWeights] | None = None,
    scaling: float = 1.0,
    logits_processors: Sequence[LogitsProcessor] = (),
) -> list[str]:
    """Continue prompts greedily; a row's text does not depend on the rows beside it.

    Args:
        llm: The model.
        prompts: Token ids, at least one row.
        max_new_tokens: Longest continuation.
        adapters: A row's adapter, merged of those of its passages; none for the plain model.
        scaling: alpha / r of the adapters as they were trained.
        logits_processors: Change the scores, one after the other, before the best is taken, for instance to sample.

    Returns:
        The continuations as text, without special tokens.
    """
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), longest), llm.pad_id)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    if adapters is not None:
        llm.stack.set(stack(adapters, llm.device), scaling)
    try:
        output = llm.model.generate(  # type: ignore[operator]
            input_ids=ids.to(llm.device),
            attention_mask=mask.to(llm.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            temperature=None,
            top_k=None,
            top_p=None,
            repetition_penalty=None,
            pad_token_id=llm.pad_id,
            logits_processor=LogitsProcessorList(logits_processors),
        )
    finally:
        llm.stack.clear()
    texts: list[str] = llm.tokenizer.batch_decode(output[:, longest:], skip_special_tokens=True)
    return texts
