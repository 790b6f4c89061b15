"""Continuous batching: texts with adapters of their own are written side by side, and each begins and ends when it
may, whatever the others do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.cache_utils import DynamicLayer

from prag_lightning.llm.gate import TESTED_TYPES
from prag_lightning.llm.greedy import end_tokens, settings_in_force
from prag_lightning.llm.loading import LLM
from prag_lightning.llm.sampling import Sampling
from prag_lightning.lora.stack import LoraWeights

_PENALTY = "repetition_penalty"
NOT_FINITE = "the model's scores are not finite"


@dataclass(eq=False)
class Row:
    """A text that is to be written.

    Args:
        prompt: Token ids, that fit into the model's context with `max_new_tokens` more; see `check_length`.
        max_new_tokens: Longest continuation.
        on_token: Told each token, and says whether to go on.
        on_end: Told once why nothing more is written: `stop` at a token that ends texts or where `on_token` said so,
            `length` where it is as long as it may be; else why it failed.
        adapter: The merged adapter that it is written with, A `[r, d_in]` and B `[d_out, r]` a module; none for the
            plain model.
        scaling: Of the adapter's update.
        sampling: How tokens are drawn; unset means the best of each.
    """

    prompt: Sequence[int]
    max_new_tokens: int
    on_token: Callable[[int], bool]
    on_end: Callable[[str], object]
    adapter: LoraWeights | None = None
    scaling: float = 1.0
    sampling: Sampling | None = None
    written: int = field(default=0, init=False)

    def take(self, token: int, ends: frozenset[int]) -> str:
        """Take in a token that was written.

        Returns:
            Why it is the last one; empty if it is not.
        """
        self.written += 1
        goes_on = self.on_token(token)
        if token in ends or not goes_on:
            return "stop"
        return "length" if self.written == self.max_new_tokens else ""


class Decoder(Protocol):
    """Writes texts."""

    def __len__(self) -> int:
        """How many are being written."""
        ...

    def add(self, rows: Sequence[Row]) -> None:
        """Begin texts."""
        ...

    def step(self) -> None:
        """Write on: a token each, or one text to its end."""
        ...

    def drop(self, row: Row) -> None:
        """Leave a text unfinished, if it is still written."""
        ...


def decoder_for(llm: LLM) -> Decoder:
    """Continuous batching, where the model was tried out with it and no other setting than the repetition penalty acts
    on what it writes; else one text after the other."""
    others = settings_in_force(llm.model.generation_config).keys() - {_PENALTY}
    continuous = llm.model.config.model_type in TESTED_TYPES and not others
    return ContinuousBatch(llm) if continuous else OneByOne(llm)


class ContinuousBatch:
    """Rows of a batch that come and go between two steps.

    Prompts and caches are padded on the left, so that the last token of all rows stands in one column. A row that comes
    is read alone with those that come with it (prefill), and its keys and values are put under the others'; the last
    row moves to the place of one that goes.

    Args:
        llm: The model.
    """

    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self.rows: list[Row] = []
        self._ends = frozenset(end_tokens(llm.model.generation_config))
        self._penalty: float = settings_in_force(llm.model.generation_config).get(_PENALTY, 1.0)
        self._adapters = _Slots(llm)
        self._cache = DynamicCache()
        self._mask = torch.zeros(0, 0, dtype=torch.long, device=llm.device)
        self._seen = torch.zeros(0, 0, dtype=torch.bool, device=llm.device)
        self._last = torch.zeros(0, dtype=torch.long, device=llm.device)

    def __len__(self) -> int:
        return len(self.rows)

    @torch.inference_mode()
    def add(self, rows: Sequence[Row]) -> None:
        """Read prompts, and write the first token of each."""
        longest = max(len(row.prompt) for row in rows)
        ids = torch.full((len(rows), longest), self.llm.pad_id)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, longest - len(row.prompt) :] = torch.tensor(row.prompt)
            mask[number, longest - len(row.prompt) :] = 1
        ids, mask = ids.to(self.llm.device), mask.to(self.llm.device)
        adapters = _Slots(self.llm)
        for number, row in enumerate(rows):
            adapters.put(number, row.adapter, row.scaling)
        cache = DynamicCache()
        scores = self._forward(ids, mask, cache, adapters.of(len(rows)))
        seen = torch.zeros_like(scores, dtype=torch.bool)
        if self._penalty != 1.0:
            places = mask.nonzero(as_tuple=True)
            seen[places[0], ids[places]] = True
        # What needs memory comes first: where it does not suffice, the others go on.
        before = len(self.rows)
        for number, row in enumerate(rows):
            self._adapters.put(before + number, row.adapter, row.scaling)
        joined, all_masks = _joined(self._cache, self._mask, cache, mask)
        all_seen = torch.cat([self._seen.reshape(before, seen.shape[1]), seen])
        self._cache, self._mask, self._seen = joined, all_masks, all_seen
        self._last = torch.cat([self._last, self._last.new_zeros(len(rows))])
        self.rows += rows
        self._take(before, scores)

    @torch.inference_mode()
    def step(self) -> None:
        """Write a token of each row."""
        self._mask = pad(self._mask, (0, 1), value=1)
        scores = self._forward(self._last[:, None], self._mask, self._cache, self._adapters.of(len(self.rows)))
        self._take(0, scores)

    @torch.inference_mode()
    def drop(self, row: Row) -> None:
        """Leave a text unfinished, if it is still written."""
        if row in self.rows:
            self._remove({self.rows.index(row)})

    def _forward(self, ids: Tensor, mask: Tensor, cache: DynamicCache, adapters: LoraWeights | None) -> Tensor:
        """The scores `[N, V]` of what follows ids `[N, T]`, of which the mask `[N, S + T]` says what is no padding."""
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        with self.llm.carrying(adapters, 1.0):
            output = self.llm.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        scores: Tensor = output.logits[:, -1].float()
        return scores

    def _take(self, first: int, scores: Tensor) -> None:
        """Choose the next token of the rows from `first` on by their scores `[N, V]`, and let those go that end."""
        if self._penalty != 1.0:
            penalised = torch.where(scores < 0, scores * self._penalty, scores / self._penalty)
            scores = torch.where(self._seen[first:], penalised, scores)
        finite = scores.amax(-1).isfinite().tolist()
        tokens = scores.argmax(-1).tolist()
        ended: dict[int, str] = {}
        for place, row in enumerate(self.rows[first:], first):
            token, own = tokens[place - first], scores[place - first]
            if not finite[place - first]:
                ended[place] = NOT_FINITE
                continue
            if row.sampling is not None:
                token = row.sampling.choose(own)
            self._last[place] = token
            self._seen[place, token] = True
            if why := row.take(token, self._ends):
                ended[place] = why
        going = [(self.rows[place], why) for place, why in ended.items()]
        self._remove(set(ended))
        for row, why in going:
            row.on_end(why)

    def _remove(self, places: set[int]) -> None:
        if not places:
            return
        order = list(range(len(self.rows)))
        for place in sorted(places, reverse=True):
            last = order.pop()
            if place < len(order):
                order[place] = last
                self._adapters.move(last, place)
        self.rows = [self.rows[place] for place in order]
        kept = torch.tensor(order, dtype=torch.long, device=self.llm.device)
        self._last, self._seen, self._mask = self._last[kept], self._seen[kept], self._mask[kept]
        if not order:
            self._cache, self._mask = DynamicCache(), self._mask[:, :0]
            return
        first = int(self._mask.any(0).nonzero()[0])  # columns before it are padding of all that stay
        self._mask = self._mask[:, first:]
        rows = [(keys[kept, :, first:], values[kept, :, first:]) for keys, values in _tensors(self._cache)]
        self._cache = _cache_of(rows)


def _joined(cache: DynamicCache, mask: Tensor, new: DynamicCache, new_mask: Tensor) -> tuple[DynamicCache, Tensor]:
    """Rows under others, all filled on the left up to the longest."""
    length = max(mask.shape[1], new_mask.shape[1])
    both = torch.cat([pad(each, (length - each.shape[1], 0)) for each in (mask, new_mask)])
    if not len(mask):
        return new, both
    rows = []
    for (keys, values), (new_keys, new_values) in zip(_tensors(cache), _tensors(new), strict=True):
        both_keys, both_values = (
            torch.cat([pad(each, (0, 0, length - each.shape[2], 0)) for each in tensors])
            for tensors in ((keys, new_keys), (values, new_values))
        )
        rows.append((both_keys, both_values))
    return _cache_of(rows), both


def _tensors(cache: DynamicCache) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of each layer, `[N, H, T, d]`."""
    layers = cast("list[DynamicLayer]", cache.layers)
    return [(cast(Tensor, layer.keys), cast(Tensor, layer.values)) for layer in layers]


def _cache_of(layers: Sequence[tuple[Tensor, Tensor]]) -> DynamicCache:
    """A cache of keys and values of each layer."""
    cache = DynamicCache()
    for number, (keys, values) in enumerate(layers):
        cache.update(keys, values, number)
    return cache


class _Slots:
    """The adapters of rows, each in the place of its row, and scaled.

    Args:
        llm: The model that they are for.
    """

    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self._ranks: list[int] = []
        """By place; 0 where there is no adapter."""
        self._tensors: dict[str, tuple[Tensor, Tensor]] = {}
        """By module A `[S, r, d_in]` and the transpose of B, `[S, r, d_out]`."""

    def of(self, count: int) -> LoraWeights | None:
        """Those of the first rows as a stack; nothing if none of them has one."""
        rank = max(self._ranks[:count])
        if rank == 0:
            return None
        return {
            name: (lora_a[:count, :rank], by_rank[:count, :rank].mT)
            for name, (lora_a, by_rank) in self._tensors.items()
        }

    def put(self, place: int, adapter: LoraWeights | None, scaling: float) -> None:
        """Put a row's adapter, or none, into its place."""
        rank = 0 if adapter is None else next(iter(adapter.values()))[0].shape[0]
        self._ranks[place:] = [rank]
        if rank or self._tensors:
            self._reserve(place + 1, rank)
        for name, (slots_a, slots_b) in self._tensors.items():
            slots_a[place].zero_()
            slots_b[place].zero_()
            if adapter is not None:
                lora_a, lora_b = adapter[name]
                slots_a[place, :rank] = lora_a
                slots_b[place, :rank] = lora_b.T * scaling

    def move(self, place: int, to: int) -> None:
        """Move the adapter of the last row to another place."""
        self._ranks[to] = self._ranks[place]
        for slots_a, slots_b in self._tensors.values():
            slots_a[to] = slots_a[place]
            slots_b[to] = slots_b[place]

    def _reserve(self, slots: int, rank: int) -> None:
        """Have so many places, for adapters up to a rank."""
        if not self._tensors:
            dtype, device = self.llm.model.dtype, self.llm.device
            for name, ((_, d_in), (d_out, _)) in self.llm.stack.shapes(rank).items():
                slots_a, slots_b = (
                    torch.zeros(slots, rank, size, dtype=dtype, device=device) for size in (d_in, d_out)
                )
                self._tensors[name] = slots_a, slots_b
            return
        have, most = next(iter(self._tensors.values()))[0].shape[:2]
        more = max(have, slots - have) if slots > have else 0  # at least doubled, so that they are seldom copied
        if more or rank > most:
            wider = (0, 0, 0, max(0, rank - most), 0, more)
            self._tensors = {name: (pad(a, wider), pad(b, wider)) for name, (a, b) in self._tensors.items()}


class OneByOne:
    """Texts that are written one after the other, by transformers' own `generate`.

    Args:
        llm: The model.
    """

    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self.rows: list[Row] = []
        self._ends = frozenset(end_tokens(llm.model.generation_config))

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, rows: Sequence[Row]) -> None:
        """Put texts into the queue."""
        self.rows += rows

    @torch.inference_mode()
    def step(self) -> None:
        """Write the first text to its end."""
        row = self.rows.pop(0)
        follow = _Follow(row, self._ends)
        adapters = None
        if row.adapter is not None:
            slots = _Slots(self.llm)
            slots.put(0, row.adapter, row.scaling)
            adapters = slots.of(1)
        ids = torch.tensor([list(row.prompt)], device=self.llm.device)
        options = {} if self.llm.model.generation_config.stop_strings is None else {"tokenizer": self.llm.tokenizer}
        with self.llm.carrying(adapters, 1.0):
            self.llm.model.generate(  # type: ignore[operator]
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=row.max_new_tokens,
                do_sample=False,
                num_beams=1,
                pad_token_id=self.llm.pad_id,
                logits_processor=LogitsProcessorList([_Choose(row.sampling, follow)]),
                stopping_criteria=StoppingCriteriaList([follow]),
                **options,
            )
        row.on_end(follow.why or "stop")

    def drop(self, row: Row) -> None:
        """Take a text out of the queue; one that is being written ends by its `on_token`."""
        if row in self.rows:
            self.rows.remove(row)


class _Follow(StoppingCriteria):
    """Tells a row its tokens, and ends it."""

    def __init__(self, row: Row, ends: frozenset[int]) -> None:
        self.row, self.ends, self.why = row, ends, ""

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        """Whether the row `[1, T]` ends here, `[1]`."""
        if not self.why:
            self.why = self.row.take(int(input_ids[0, -1]), self.ends)
        return torch.tensor([bool(self.why)], device=input_ids.device)


class _Choose(LogitsProcessor):
    """Leaves the scores as they are, or but one of them, which was drawn; those that are not finite end the row."""

    def __init__(self, sampling: Sampling | None, follow: _Follow) -> None:
        self.sampling, self.follow = sampling, follow

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores `[1, V]`, as `generate` has them after its settings."""
        if not scores.amax().isfinite():
            self.follow.why = NOT_FINITE
        elif self.sampling is not None:
            token = self.sampling.choose(scores[0].float())
            scores = torch.full_like(scores, float("-inf"))
            scores[0, token] = 0.0
        return scores
