"""Prompts into texts: greedy decoding in batches, each row with its own merged adapters, or of one prompt in pieces."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from prag_lightning.errors import PragError
from prag_lightning.llm.greedy import RepetitionPenalty, end_tokens, settings_in_force
from prag_lightning.llm.loading import LLM
from prag_lightning.llm.streaming import PieceStreamer, in_a_thread
from prag_lightning.lora.merge import stack
from prag_lightning.lora.stack import LoraWeights

_PENALTY = "repetition_penalty"
MakeProcessors = Callable[[Sequence[int]], Sequence[LogitsProcessor]]
"""Makes what changes the scores of some of the prompts, named by their places, before the best token is taken."""


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
    make_processors: MakeProcessors | None = None,
) -> list[str]:
    """Continue prompts greedily, as the model's generation settings have it; a row's text does not depend on the rows
    beside it.

    Args:
        llm: The model.
        prompts: Token ids, at least one row.
        max_new_tokens: Longest continuation.
        adapters: A row's adapter, merged of those of its passages, for each row or stacked; none for the plain model.
        scaling: alpha / r of the adapters as they were trained.
        make_processors: Makes what changes the scores, for instance to sample.

    Returns:
        The continuations as text, without special tokens.

    Raises:
        PragError: if a prompt cannot be continued; see `generate_each`.
    """
    texts = []
    for text in generate_each(
        llm, prompts, max_new_tokens, adapters=adapters, scaling=scaling, make_processors=make_processors
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
    make_processors: MakeProcessors | None = None,
) -> list[str | GenerationFailure]:
    """As `generate`, but a prompt that is empty, leaves no room in the model's context, or meets scores that are not
    finite costs its own row alone."""
    results: dict[int, str | GenerationFailure] = {}
    for row, prompt in enumerate(prompts):
        if reason := check_length(llm, prompt, max_new_tokens):
            results[row] = GenerationFailure(reason)
    stacked = None if adapters is None else _placed(adapters, llm)
    for rows in _batches(llm, prompts, [row for row in range(len(prompts)) if row not in results]):
        chosen = stacked
        if stacked is not None and len(rows) < len(prompts):
            chosen = {name: (lora_a[rows], lora_b[rows]) for name, (lora_a, lora_b) in stacked.items()}
        processors = () if make_processors is None else make_processors(rows)
        texts = _continue(llm, [prompts[row] for row in rows], max_new_tokens, chosen, scaling, processors)
        results |= zip(rows, texts, strict=True)
    return [results[row] for row in range(len(prompts))]


def stream(
    llm: LLM, prompt: Sequence[int], max_new_tokens: int, *, adapters: LoraWeights | None = None, scaling: float = 1.0
) -> Generator[str, None, None]:
    """Continue one prompt as `generate` does, and give the text in pieces while it is decoded: joined, they are what
    `generate` returns.

    Decoding begins with the first piece that is asked for, and runs in a thread of its own, in the precision (autocast)
    of whoever calls this. Close the iterator to end it early. Until it has ended or been closed the model is in use:
    whatever else would decode with it raises.

    Args:
        llm: The model.
        prompt: Token ids.
        max_new_tokens: Longest continuation.
        adapters: A stack of one, or none for the plain model.
        scaling: alpha / r of the adapters as they were trained.

    Raises:
        PragError: if the prompt cannot be continued (now), or its scores are not finite, or the model is in use (when
            a piece is asked for).
    """
    if reason := check_length(llm, prompt, max_new_tokens):
        raise PragError(f"a prompt cannot be continued: {reason}")

    def decode(on_text: Callable[[str], None]) -> str:
        stacked = None if adapters is None else _placed(adapters, llm)
        streamer = PieceStreamer(llm.tokenizer, on_text)
        with torch.inference_mode():
            (text,) = _continue(llm, [prompt], max_new_tokens, stacked, scaling, streamer=streamer)
        if isinstance(text, GenerationFailure):
            raise PragError(f"a prompt cannot be continued: {text.reason}")
        return streamer.rest(text)

    return in_a_thread(decode, llm.device.type)


def _batches(llm: LLM, prompts: Sequence[Sequence[int]], rows: list[int]) -> Iterator[list[int]]:
    """All rows at once; but without padding, which is rows of one length at a time, where it would reach the texts."""
    others = settings_in_force(llm.model.generation_config).keys() - {_PENALTY}
    if llm.pads and not others:
        if rows:
            yield rows
        return
    by_length: dict[int, list[int]] = {}
    for row in rows:
        by_length.setdefault(len(prompts[row]), []).append(row)
    yield from by_length.values()


def _continue(
    llm: LLM,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    adapters: LoraWeights | None,
    scaling: float,
    processors: Sequence[LogitsProcessor] = (),
    streamer: BaseStreamer | None = None,
) -> list[str | GenerationFailure]:
    """One batch; a streamer is for one row alone.

    Raises:
        PragError: if the model is still writing something else.
    """
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), longest), llm.pad_id)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    ids, mask = ids.to(llm.device), mask.to(llm.device)
    config = llm.model.generation_config
    finite = _FiniteScores(len(prompts))
    ours: list[LogitsProcessor] = [finite]
    options: dict[str, Any] = {}
    if settings_in_force(config).keys() == {_PENALTY}:
        options[_PENALTY] = 1.0
        ours.append(RepetitionPenalty(config.repetition_penalty, mask))
    if config.stop_strings is not None:
        options["tokenizer"] = llm.tokenizer
    with llm.carrying(adapters, scaling):
        output: Tensor = llm.model.generate(  # type: ignore[operator]
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            pad_token_id=llm.pad_id,
            logits_processor=LogitsProcessorList([*ours, *processors]),
            streamer=streamer,
            **options,
        )
    written = output[:, longest:]
    ends = set(end_tokens(llm.model.generation_config))
    rows = [_ended(row, ends) for row in written.tolist()]
    texts = llm.tokenizer.batch_decode(rows, skip_special_tokens=True)
    failure = GenerationFailure("the model's scores are not finite")
    broken = [steps < len(row) for row, steps in zip(rows, finite.steps.tolist(), strict=True)]
    return [failure if failed else text for text, failed in zip(texts, broken, strict=True)]


def _ended(tokens: list[int], ends: set[int]) -> list[int]:
    """A row up to its end, without what fills it up to the others' length."""
    for place, token in enumerate(tokens):
        if token in ends:
            return tokens[: place + 1]
    return tokens


def _placed(adapters: Sequence[LoraWeights] | LoraWeights, llm: LLM) -> LoraWeights:
    """A stack on the model's device and in its precision."""
    stacked = adapters if isinstance(adapters, Mapping) else stack(adapters)
    device, dtype = llm.device, llm.model.dtype
    return {name: (lora_a.to(device, dtype), lora_b.to(device, dtype)) for name, (lora_a, lora_b) in stacked.items()}


def check_length(llm: LLM, prompt: Sequence[int], max_new_tokens: int) -> str:
    """Why a prompt cannot be continued by so many tokens; empty if it can."""
    if not prompt:
        return "its prompt is empty"
    if max(prompt) >= llm.vocabulary:
        token = llm.tokenizer.convert_ids_to_tokens(max(prompt))
        return f"its prompt has the token {token!r}, of which the model knows nothing"
    if len(prompt) + max_new_tokens > llm.context:
        return (
            f"its prompt of {len(prompt)} tokens leaves no room for {max_new_tokens} more in the model's context of "
            f"{llm.context}"
        )
    return ""


class _FiniteScores(LogitsProcessor):
    """Leaves the scores as they are, and counts the steps before one was infinite or no number.

    Args:
        rows: How many there are.
    """

    def __init__(self, rows: int) -> None:
        self.steps = torch.zeros(rows, dtype=torch.long)
        self._finite = torch.ones(rows, dtype=torch.bool)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores `[N, V]`, as they came."""
        self._finite = self._finite.to(scores.device) & scores.amax(dim=-1).isfinite()
        self.steps = self.steps.to(scores.device) + self._finite
        return scores
