"""Questions into answers: greedy decoding in batches, each row with its own merged adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from prag_lightning.errors import PragError
from prag_lightning.llm.decode import decode, decodes
from prag_lightning.llm.loading import LLM
from prag_lightning.lora.merge import stack
from prag_lightning.lora.stack import LoraWeights


@dataclass(frozen=True)
class GenerationFailure:
    """Why a prompt was not continued."""

    reason: str


def generate(
    llm: LLM,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    adapters: Sequence[LoraWeights] | LoraWeights | None = None,
    scaling: float = 1.0,
    logits_processors: Sequence[LogitsProcessor] = (),
) -> list[str]:
    """Continue prompts greedily; a row's text does not depend on the rows beside it.

    Args:
        llm: The model.
        prompts: Token ids, at least one row.
        max_new_tokens: Longest continuation.
        adapters: A row's adapter, merged of those of its passages, for each row or stacked; none for the plain model.
        scaling: alpha / r of the adapters as they were trained.
        logits_processors: Change the scores, one after the other, before the best is taken, for instance to sample.

    Returns:
        The continuations as text, without special tokens.

    Raises:
        PragError: if a prompt cannot be continued; see `generate_each`.
    """
    texts = []
    for text in generate_each(
        llm, prompts, max_new_tokens, adapters=adapters, scaling=scaling, logits_processors=logits_processors
    ):
        if isinstance(text, GenerationFailure):
            raise PragError(f"a prompt cannot be continued: {text.reason}")
        texts.append(text)
    return texts


@torch.inference_mode()
def generate_each(
    llm: LLM,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    adapters: Sequence[LoraWeights] | LoraWeights | None = None,
    scaling: float = 1.0,
    logits_processors: Sequence[LogitsProcessor] = (),
) -> list[str | GenerationFailure]:
    """As `generate`, but a prompt that is empty, leaves no room in the model's context, or meets scores that are not
    finite costs its own row alone."""
    refused = {
        row: reason for row, prompt in enumerate(prompts) if (reason := check_length(llm, prompt, max_new_tokens))
    }
    if len(refused) == len(prompts):
        return [GenerationFailure(reason) for reason in refused.values()]
    prompts = [[llm.pad_id] if row in refused else prompt for row, prompt in enumerate(prompts)]
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), longest), llm.pad_id)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    ids, mask = ids.to(llm.device), mask.to(llm.device)
    stacked = None if adapters is None else _placed(adapters, llm)
    continued = decode if decodes(llm.model) else _generate
    try:
        written, broken = continued(llm, ids, mask, max_new_tokens, stacked, scaling, logits_processors)
    finally:
        llm.stack.clear()
    texts: list[str] = llm.tokenizer.batch_decode(written, skip_special_tokens=True)
    not_finite = set(broken.nonzero().flatten().tolist()) - refused.keys()
    refused |= dict.fromkeys(not_finite, "the model's scores are not finite")
    return [GenerationFailure(refused[row]) if row in refused else text for row, text in enumerate(texts)]


def _placed(adapters: Sequence[LoraWeights] | LoraWeights, llm: LLM) -> LoraWeights:
    """A stack on the model's device and in its precision."""
    stacked = adapters if isinstance(adapters, Mapping) else stack(adapters)
    device, dtype = llm.device, llm.model.dtype
    return {name: (lora_a.to(device, dtype), lora_b.to(device, dtype)) for name, (lora_a, lora_b) in stacked.items()}


def check_length(llm: LLM, prompt: Sequence[int], max_new_tokens: int) -> str:
    """Why a prompt cannot be continued by so many tokens; empty if it can."""
    if not prompt:
        return "its prompt is empty"
    if len(prompt) + max_new_tokens > llm.context:
        return (
            f"its prompt of {len(prompt)} tokens leaves no room for {max_new_tokens} more in the model's context of "
            f"{llm.context}"
        )
    return ""


def _generate(
    llm: LLM,
    ids: Tensor,
    mask: Tensor,
    max_new_tokens: int,
    adapters: LoraWeights | None,
    scaling: float,
    logits_processors: Sequence[LogitsProcessor],
) -> tuple[Tensor, Tensor]:
    """What `decode` gives, by transformers."""
    finite = _FiniteScores(len(ids))
    if adapters is not None:
        llm.stack.set(adapters, scaling)
    output: Tensor = llm.model.generate(  # type: ignore[operator]
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        temperature=None,
        top_k=None,
        top_p=None,
        repetition_penalty=None,
        pad_token_id=llm.pad_id,
        logits_processor=LogitsProcessorList([finite, *logits_processors]),
    )
    return output[:, ids.shape[1] :], finite.broken


class _FiniteScores(LogitsProcessor):
    """Leaves the scores as they are, and remembers the rows in which one was infinite or no number.

    Args:
        rows: How many there are.
    """

    def __init__(self, rows: int) -> None:
        self.broken = torch.zeros(rows, dtype=torch.bool)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores `[N, V]`, as they came."""
        self.broken = self.broken.to(scores.device) | ~scores.amax(dim=-1).isfinite()
        return scores
