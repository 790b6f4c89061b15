"""What answers rest on: the passages of a question, their adapters, and those that have to be made for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import cast, get_args

from prag_lightning.augment.questions import KnownFirst, OnlyKnown
from prag_lightning.data.chat_text import document_ids
from prag_lightning.data.corpus import CorpusReader
from prag_lightning.errors import InputError, PragError
from prag_lightning.inference.answerer import Answerer, Prepared
from prag_lightning.inference.asker import checked_question
from prag_lightning.inference.methods import InferenceMethod, uses_adapters
from prag_lightning.inference.on_demand import OnDemand
from prag_lightning.llm.generation import check_length
from prag_lightning.lora.store import CACHE_BYTES
from prag_lightning.memory.memory import Memory
from prag_lightning.pipeline.pipeline import Pipeline
from prag_lightning.progress import without_progress
from prag_lightning.records import AugmentedPassage, AugmentedQuestion, Passage, Question
from prag_lightning.retrieval import Hit
from prag_lightning.serve.api_errors import ApiError
from prag_lightning.serve.requests import Asked

_FADES = 0.5
"""What an earlier turn of a conversation weighs in retrieval, relative to the one after it."""
_LARGEST_CORPUS = 2**28
"""Bytes of a corpus whose passages are known by their ids."""


@dataclass
class Found:
    """A question with what was found for it.

    Args:
        asked: By a client.
        answerer: Answers it.
        record: It with its passages; none of them for the plain model.
        seconds: What it took, by kind of work.
        hits: What was found, where passages lack adapters that are still to be made.
    """

    asked: Asked
    answerer: Answerer
    record: AugmentedQuestion
    seconds: dict[str, float] = field(default_factory=dict)
    hits: Sequence[Hit] = ()
    encoded: int = 0

    @property
    def scores(self) -> list[float]:
        """Of the passages, in retrieval."""
        return [passage.score or 0.0 for passage in self.record.passages]


class Backend:
    """Finds what answers rest on, in an experiment or a store.

    `find` and `prepare` are for one thread, `encode` for another: it has places for adapters of its own in the model.

    Args:
        pipeline: The experiment, or that of the store.
        memory: The store, if there is one.
        cache_bytes: What is kept of adapters in memory.
    """

    def __init__(self, pipeline: Pipeline, memory: Memory | None = None, cache_bytes: float = CACHE_BYTES) -> None:
        self.pipeline, self.memory, self.cache_bytes = pipeline, memory, cache_bytes
        self.llm, self.prompts = pipeline.llm, pipeline.data.prompts
        twin = Pipeline(pipeline.settings, pipeline.data, pipeline.compute, llm=self.llm.twin())
        self._twin = twin
        self.changing = None if memory is None else Memory(memory.folder, twin, memory.trainer)
        """The store for whoever changes it, beside the answers."""
        self._known: dict[str, AugmentedPassage] = {}
        if memory is None and self.has_passages:
            pipeline.library(create=True)  # what is wrong with it is told at once
            self._known = pipeline.data.augmented_passages()
        self._writer = KnownFirst(self._known, twin.augmenter)

    @property
    def has_passages(self) -> bool:
        """Whether there is anything to answer from."""
        return self.memory is not None or self.pipeline.data.has_retriever

    @property
    def methods(self) -> tuple[InferenceMethod, ...]:
        """Those that can be asked for."""
        return cast("tuple[InferenceMethod, ...]", get_args(InferenceMethod)) if self.has_passages else ("vanilla",)

    def find(self, asked: Asked) -> Found:
        """The passages of a question.

        Raises:
            ApiError: if there can be no answer to it.
        """
        method = asked.method
        if method is None:
            return Found(asked, self.pipeline.answerer("vanilla"), AugmentedQuestion(Question(0, ""), ()))
        with _told():
            question = Question(0, checked_question(asked.conversation[-1].text))
        with _failing():
            answerer = self._answerer(method, asked)
            if method == "vanilla":
                return Found(asked, answerer, AugmentedQuestion(question, ()))
            on_demand = self._on_demand(method, asked)
            started = time.perf_counter()
            hits = self._hits(asked, on_demand)
            seconds = {"retrieve": time.perf_counter() - started}
            (record,) = on_demand.of_hits([question], [hits])
        texts = list(dict.fromkeys(hit.passage.text for hit in hits))[: on_demand.topk]
        ready = {passage.passage for passage in record.passages}
        missing = self.memory is None and uses_adapters(method) and any(text not in ready for text in texts)
        return Found(asked, answerer, record, seconds, hits if missing else ())

    def encode(self, found: Found) -> Found:
        """As it was found, with the adapters that were missing.

        Raises:
            ApiError: if they cannot be made.
        """
        assert found.asked.method is not None
        with _failing(), without_progress(), self._twin.compute.autocast():
            topk = found.asked.options.topk
            on_demand = self._twin.on_demand(adapters=True, topk=topk, augmenter=self._writer)
            (record,) = on_demand.of_hits([found.record.question], [found.hits])
        return replace(
            found, record=record, seconds=found.seconds | on_demand.seconds, hits=(), encoded=on_demand.encoded
        )

    def drop_forgotten(self) -> None:
        """Keep nothing in memory of what the store has forgotten."""
        adapters = self.pipeline.adapters() if self.memory is not None and self.memory.contents.passages else None
        if adapters is not None:
            adapters.library.store.forget_memory()

    def prepare(self, found: Found) -> Prepared:
        """What a reply is written from.

        Raises:
            ApiError: if there is no such prompt, or it leaves no room for a reply.
        """
        asked = found.asked
        if asked.method is None:
            prepared = Prepared(self._plain_prompt(asked))
        else:
            with _told(PragError):
                prepared = found.answerer.prepare(found.record, found.scores, asked.conversation[:-1])
            prepared = replace(prepared, scaling=prepared.scaling * asked.options.scale)
        if reason := check_length(self.llm, prepared.ids, asked.max_tokens or 1):
            raise ApiError(400, f"it cannot be answered: {reason}", code="context_length_exceeded")
        return prepared

    def _plain_prompt(self, asked: Asked) -> list[int]:
        if isinstance(asked.prompt, tuple):
            return list(asked.prompt)
        with _told():
            if asked.conversation:
                return self.prompts.conversation_ids(self.llm.tokenizer, asked.conversation)
            return document_ids(self.llm.tokenizer, asked.prompt)

    def _answerer(self, method: InferenceMethod, asked: Asked) -> Answerer:
        answerer = self.pipeline.answerer(method) if self.memory is None else self.memory.asker(method).answerer
        if answerer.adapters is None:
            return answerer
        answerer.adapters.library.store.cache_bytes = self.cache_bytes
        if asked.options.merge is None:
            return answerer
        return replace(answerer, adapters=replace(answerer.adapters, merge=asked.options.merge))

    def _on_demand(self, method: InferenceMethod, asked: Asked) -> OnDemand:
        """What finds passages and makes nothing."""
        topk = asked.options.topk or (len(asked.options.passages) if asked.options.passages else None)
        if self.memory is not None:
            return cast(OnDemand, self.memory.asker(method, topk).on_demand)
        known = OnlyKnown(lambda: self._known)
        return self.pipeline.on_demand(adapters=uses_adapters(method), topk=topk, augmenter=known)

    def _hits(self, asked: Asked, on_demand: OnDemand) -> list[Hit]:
        if asked.options.passages is not None:
            return [Hit(passage, 0.0) for passage in self._named(asked.options.passages)]
        turns = [turn.text for turn in asked.conversation if turn.role != "system"]
        return search_conversation(on_demand.retriever.search, turns, on_demand.depth)

    def _named(self, ids: Sequence[str]) -> list[Passage]:
        """Passages by their ids.

        Raises:
            ApiError: if there is none of one.
        """
        stored = () if self.memory is None else self.memory.contents.passages
        known = self._of_corpus if self.memory is None else {each.passage.id: each.passage for each in stored}
        if unknown := next((key for key in ids if key not in known), None):
            raise ApiError(404, f"there is no passage {unknown!r}", param="prag.passages", code="passage_not_found")
        return [known[key] for key in ids]

    @cached_property
    def _of_corpus(self) -> Mapping[str, Passage]:
        corpus = self.pipeline.data.settings.corpus
        if corpus is None:
            return {}
        reader = CorpusReader(corpus)
        if reader.megabytes * 1e6 > _LARGEST_CORPUS:
            raise ApiError(400, "passages can be named only of corpora below 256 MB", param="prag.passages")
        return {passage.id: passage for passage in reader}


def search_conversation(
    search: Callable[[Sequence[str], int], list[list[Hit]]], turns: Sequence[str], k: int
) -> list[Hit]:
    """Passages for the last turn of a conversation and what it refers to.

    A passage scores what it scores for the last turn, half of what it does for the one before, a quarter for the one
    before that: so what "it" means is found, and a question that names its subject finds that.

    Args:
        search: Of a retriever.
        turns: Texts, the last one last.
        k: Passages.

    >>> from prag_lightning.records import Passage
    >>> found = {"Who wrote Emma?": [("emma", 3.0)], "And when?": [("when", 1.0)]}
    >>> def search(turns, k): return [[Hit(Passage(i, i, ""), s) for i, s in found[turn]] for turn in turns]
    >>> [hit.passage.id for hit in search_conversation(search, ["Who wrote Emma?", "And when?"], 2)]
    ['emma', 'when']
    """
    latest = [turn for turn in turns[-3:] if turn.strip()]
    if len(latest) == 1:
        return search(latest, k)[0]
    found = search(latest, 4 * k)
    scores: dict[str, float] = {}
    passages: dict[str, Passage] = {}
    for age, hits in enumerate(reversed(found)):
        for hit in hits:
            scores[hit.passage.text] = scores.get(hit.passage.text, 0.0) + _FADES**age * hit.score
            passages.setdefault(hit.passage.text, hit.passage)
    best = sorted(scores, key=lambda text: -scores[text])[:k]
    return [Hit(passages[text], scores[text]) for text in best]


@contextmanager
def _told(kind: type[PragError] = InputError) -> Iterator[None]:
    """Tell the client of what it asked that cannot be."""
    try:
        yield
    except kind as error:
        raise ApiError(400, str(error)) from error


@contextmanager
def _failing() -> Iterator[None]:
    """Tell the client of what fails here."""
    try:
        yield
    except PragError as error:
        raise ApiError(503, str(error), code="not_available") from error
