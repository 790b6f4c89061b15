"""Greedy decoding of a batch: prompts are read no further than needed, keys and values stand in memory that is taken
once, and rows that have ended leave."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList
from transformers.cache_utils import DynamicLayer

from prag_lightning.llm.cpu import FLOAT32_ATTENTION
from prag_lightning.llm.loading import LLM
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
_ATTENTION = ("eager", "sdpa", FLOAT32_ATTENTION)
"""Those that add a mask of four dimensions to their scores."""
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
        and model.config._attn_implementation in _ATTENTION
        and not getattr(model.config, "alibi", False)
        and all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
    )


class _StopPrefill(Exception):
    """The last layer has the keys and values of all tokens that were to be read."""


class _ReservedLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of a layer, written into memory for all tokens to come; its base copies them for every token.

    Args:
        length: Most tokens a row.
    """

    def __init__(self, length: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.length = length
        self.stops_prefill = False

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take the memory, `[N, heads, length, size]`."""
        super().lazy_initialization(key_states, value_states)
        self.reserved = [
            states.new_empty(*states.shape[:2], self.length, states.shape[3]) for states in (key_states, value_states)
        ]
        self._show(0)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Add tokens `[N, heads, T, size]`, and give all.

        Raises:
            _AllRead: instead, if what the layer makes of them is of no use.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        stop = start + key_states.shape[-2]
        for reserved, states in zip(self.reserved, (key_states, value_states), strict=True):
            reserved[:, :, start:stop] = states
        shown = self._show(stop)
        if self.stops_prefill:
            raise _StopPrefill
        return shown

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
    device = ids.device
    written = torch.full((len(ids), max_new_tokens), llm.pad_id, device=device)
    ends = _end_tokens(llm, device)
    rows = torch.arange(len(ids), device=device)
    going = torch.ones(len(ids), dtype=torch.bool, device=device)
    broken = torch.zeros_like(going)
    processors = LogitsProcessorList(logits_processors)
    if adapters is not None:
        llm.stack.set(adapters, scaling)
    cache = _read(llm, ids, mask, max_new_tokens)
    padding_mask = _padding_mask(mask, max_new_tokens, llm.model.dtype)
    positions = mask.sum(1, keepdim=True) - 1
    step = ids[:, -1:]
    for number in range(max_new_tokens):
        logits = llm.model(
            input_ids=step,
            attention_mask=None if padding_mask is None else padding_mask[..., : ids.shape[1] + number],
            position_ids=positions + number,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        broken[rows] |= going & ~logits.amax(-1).isfinite()
        if processors:
            logits = processors(torch.cat([ids, written[:, :number]], dim=1), logits.float())  # type: ignore[arg-type]
        best = torch.where(going, logits.argmax(-1), llm.pad_id)
        written[rows, number] = best
        going &= ~torch.isin(best, ends)
        left = int(going.sum())
        if not left:
            break
        if left <= _LEAVE_AT * len(rows) and not processors:
            stay = going.nonzero().squeeze(1)
            cache.batch_select_indices(stay)
            rows, positions, going, best = rows[stay], positions[stay], going[stay], best[stay]
            padding_mask = None if padding_mask is None else padding_mask[stay]
            if adapters is not None:
                adapters = {name: (lora_a[stay], lora_b[stay]) for name, (lora_a, lora_b) in adapters.items()}
                llm.stack.set(adapters, scaling)
        step = best[:, None]
    return written, broken


def _read(llm: LLM, ids: Tensor, mask: Tensor, max_new_tokens: int) -> Any:
    """Keys and values of prompts but for their last tokens, with room for those and for what will be written.

    Every row stands from the first place on: with nothing before it, no token reads padding, and no mask is needed.
    Of what was read only keys and values are of use, so the last layer's attention and all after it are left out.
    """
    longest = ids.shape[1]
    cache: Any = DynamicCache(config=llm.model.config)
    cache.layers = [_ReservedLayer(longest - 1 + max_new_tokens) for _ in cache.layers]
    if longest > 1:
        padding = longest - mask.sum(1, keepdim=True)
        places = (torch.arange(longest, device=ids.device) + padding) % longest
        cache.layers[-1].stops_prefill = True
        with suppress(_StopPrefill):
            llm.model(input_ids=ids.gather(1, places)[:, :-1], past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.layers[-1].stops_prefill = False
    return cache


def _padding_mask(mask: Tensor, max_new_tokens: int, dtype: torch.dtype) -> Tensor | None:
    """What keeps rows from reading the padding behind their prompts: minus infinity there, `[N, 1, 1, T - 1 +
    max_new_tokens]`; nothing if there is none."""
    if mask.all():
        return None
    longest = mask.shape[1]
    places = torch.arange(longest - 1 + max_new_tokens, device=mask.device)
    padding = (places >= mask.sum(1, keepdim=True) - 1) & (places < longest - 1)
    return torch.zeros(padding.shape, dtype=dtype, device=mask.device).masked_fill_(padding, -torch.inf)[:, None, None]


def _end_tokens(llm: LLM, device: torch.device) -> Tensor:
    ends = llm.model.generation_config.eos_token_id
    return torch.tensor(
        [] if ends is None else [ends] if isinstance(ends, int) else ends, dtype=torch.long, device=device
    )
