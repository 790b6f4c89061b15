"""Single questions of one's own, and where their answers come from."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from prag_lightning.errors import InputError
from prag_lightning.inference.answerer import Answerer
from prag_lightning.inference.methods import uses_adapters
from prag_lightning.inference.on_demand import OnDemand
from prag_lightning.metrics import extract_answer
from prag_lightning.records import AugmentedQuestion, Question, Source


@dataclass(frozen=True)
class UsedPassage:
    """A passage that an answer rests on, as the retriever found it."""

    id: str
    title: str
    text: str
    score: float
    source: Source | None = None


@dataclass(frozen=True)
class Answer:
    """An answer and where it comes from.

    Args:
        question: As it was asked.
        answer: What was extracted from the reply.
        reply: The LLM's whole reply.
        method: How the passages were used.
        passages: Those that were used, best first.
        encoded: How many adapters were made for it.
        seconds: What it took, by kind of work.
    """

    question: str
    answer: str
    reply: str
    method: str
    passages: tuple[UsedPassage, ...]
    encoded: int
    seconds: dict[str, float]


@dataclass(frozen=True)
class Asker:
    """Answers single questions.

    Args:
        answerer: Answers.
        on_demand: Finds passages and provides their adapters; `None` for a method without passages.
        autocast: The context that the LLM works in.
    """

    answerer: Answerer
    on_demand: OnDemand | None
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext

    def ask(self, question: str) -> Answer:
        """Answer one question.

        Raises:
            InputError: if it is empty, or no text.
        """
        asked = question.strip()
        if any("\ud800" <= char <= "\udfff" for char in asked):
            raise InputError("the question is not UTF-8", where=ascii(asked[:60]), hint="Ask it in that encoding")
        if not any(char.isalnum() for char in asked):
            raise InputError("the question is empty", hint='Ask one, as in: prag ask --config FILE "Who wrote Emma?"')
        with self.autocast():
            return self._answer(asked)

    def _answer(self, asked: str) -> Answer:
        seconds: dict[str, float] = {}
        passages: tuple[UsedPassage, ...] = ()
        record = AugmentedQuestion(Question(0, asked), ())
        if self.on_demand is not None:
            (record,) = self.on_demand.passages([record.question])
            seconds |= self.on_demand.seconds
            hits = [self.on_demand.hits[passage.passage] for passage in record.passages]
            passages = tuple(
                UsedPassage(h.passage.id, h.passage.title, h.passage.text, h.score, h.passage.source) for h in hits
            )
        started = time.perf_counter()
        scores = [[passage.score for passage in passages]] if uses_adapters(self.answerer.method) else ()
        (reply,) = self.answerer.texts([record], [record.passages], scores)
        seconds["answer"] = time.perf_counter() - started
        extracted = extract_answer(reply, self.answerer.with_cot, "full")
        encoded = 0 if self.on_demand is None else self.on_demand.encoded
        return Answer(asked, extracted, reply.strip(), self.answerer.method, passages, encoded, seconds)
