"""Greedy decoding of a batch: keys and values in memory that is taken once, and rows that have ended leave."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList
from transformers.cache_utils import DynamicLayer

from prag_lightning.llm import LLM
from prag_lightning.lora.stack import LoraWeights

_NEEDED = {"input_ids", "attention_mask", "position_ids", "past_key_values", "use_cache", "logits_to_keep"}
_UNDERSTOOD = {
    "bos_token_id",
    "do_sample",
    "eos_token_id",
    "max_length",
    "max_new_tokens",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "repetition_penalty",
    "temperature",
    "top_k",
    "top_p",
    "transformers_version",
    "use_cache",
}
"""Settings of a checkpoint's generation that end a row, or that greedy decoding does without."""
_LEAVE_AT = 0.75
"""Rows leave when no more than this share of them goes on: making the rest whole again is a copy of their keys."""


def decodes(model: Any) -> bool:
    """Whether a model reads a batch as `decode` gives it, and asks for nothing in decoding that `decode` does not do.
    Others are left to `generate` of transformers."""
    settings = model.generation_config.to_diff_dict()
    asked = {name for name, value in settings.items() if value is not None and not name.startswith("_")}
    return (
        set(inspect.signature(model.forward).parameters) >= _NEEDED
        and asked <= _UNDERSTOOD
        and all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
    )


class _ReservedLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of a layer, written into memory for all tokens to come; its base copies them for every token.

    Args:
        length: Most tokens a row.
    """

    def __init__(self, length: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.length = length

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take the memory, `[N, heads, length, size]`."""
        super().lazy_initialization(key_states, value_states)
        self.reserved = [
            states.new_empty(*states.shape[:2], self.length, states.shape[3]) for states in (key_states, value_states)
        ]
        self._show(0)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Add tokens `[N, heads, T, size]`, and give all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        stop = start + key_states.shape[-2]
        for reserved, states in zip(self.reserved, (key_states, value_states), strict=True):
            reserved[:, :, start:stop] = states
        return self._show(stop)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows."""
        self.reserved = [reserved[indices] for reserved in self.reserved]
        self._show(self.get_seq_length())

    def _show(self, stop: int) -> tuple[Tensor, Tensor]:
        keys, values = (reserved[:, :, :stop] for reserved in self.reserved)
        self.keys, self.values = keys, values
        return keys, values


def decode(
    llm: LLM,
    ids: Tensor,
    mask: Tensor,
    max_new_tokens: int,
    adapters: LoraWeights | None,
    scaling: float,
    logits_processors: Sequence[LogitsProcessor],
) -> tuple[Tensor, Tensor]:
    """The tokens that `generate` of transformers gives greedily, `[N, max_new_tokens]`, filled up with padding; and the
    rows in which a score was infinite or no number, `[N]`.

    Args:
        llm: Its model `decodes`.
        ids: Prompts `[N, T]`, padded on the left.
        mask: 1 where a prompt stands, `[N, T]`.
        max_new_tokens: Longest continuation.
        adapters: A stack of N, if the rows have adapters.
        scaling: Of their updates.
        logits_processors: See `generate` in `answer`. As they may count rows, all rows then stay to the end.
    """
    device, prompt = ids.device, ids.shape[1]
    written = torch.full((len(ids), max_new_tokens), llm.pad_id, device=device)
    ends = _end_tokens(llm, device)
    rows = torch.arange(len(ids), device=device)
    going = torch.ones(len(ids), dtype=torch.bool, device=device)
    broken = torch.zeros_like(going)
    mask = torch.cat([mask, mask.new_ones(len(ids), max_new_tokens)], dim=1)
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    cache: Any = DynamicCache(config=llm.model.config)
    cache.layers = [_ReservedLayer(mask.shape[1]) for _ in cache.layers]
    processors = LogitsProcessorList(logits_processors)
    step = ids
    if adapters is not None:
        llm.stack.set(adapters, scaling)
    for number in range(max_new_tokens):
        now = prompt + number
        logits = llm.model(
            input_ids=step,
            attention_mask=mask[:, :now],
            position_ids=positions[:, now - step.shape[1] : now],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        broken[rows[going]] |= ~logits[going].amax(-1).isfinite()
        if processors:
            logits = processors(torch.cat([ids, written[:, :number]], dim=1), logits.float())  # type: ignore[arg-type]
        best = logits.argmax(-1)
        written[rows[going], number] = best[going]
        going &= ~torch.isin(best, ends)
        left = int(going.sum())
        if not left:
            break
        if left <= _LEAVE_AT * len(rows) and not processors:
            stay = going.nonzero().squeeze(1)
            cache.batch_select_indices(stay)
            rows, mask, positions, going = rows[stay], mask[stay], positions[stay], going[stay]
            if adapters is not None:
                adapters = {name: (lora_a[stay], lora_b[stay]) for name, (lora_a, lora_b) in adapters.items()}
                llm.stack.set(adapters, scaling)
        step = written[rows, number, None]
    return written, broken


def _end_tokens(llm: LLM, device: torch.device) -> Tensor:
    ends = llm.model.generation_config.eos_token_id
    return torch.tensor(
        [] if ends is None else [ends] if isinstance(ends, int) else ends, dtype=torch.long, device=device
    )
