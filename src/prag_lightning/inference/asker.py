"""Single questions of one's own, and where their answers come from."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace

from prag_lightning.errors import InputError
from prag_lightning.inference.answerer import Answerer
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
        log_probability: How sure the model is of it: the mean log-probability of a token, in nats; at most 0.
        abstained: Whether that is too little, so that "I don't know" should be said in its place.
    """

    question: str
    answer: str
    reply: str
    method: str
    passages: tuple[UsedPassage, ...]
    encoded: int
    seconds: dict[str, float]
    log_probability: float
    abstained: bool = False

    @property
    def text(self) -> str:
        """The answer, or the whole reply where nothing could be extracted from it; or that it is not known."""
        return "I don't know." if self.abstained else self.answer or self.reply


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
            PragError: if it cannot be answered.
        """
        asked = checked_question(question)
        with self.autocast():
            found = self._find(asked)
            (reply,) = self.answerer.texts([found.record], [found.record.passages], [found.scores])
            return self._answer(found, reply)

    def ask_all(self, questions: Sequence[str], batch_size: int = 16) -> list[Answer]:
        """Answer several questions, so many at once; the seconds of each answer are its share of those of its batch.

        Raises:
            InputError: if one is empty, or no text.
            PragError: naming one that cannot be answered.
        """
        asked = [checked_question(question) for question in questions]
        answers: list[Answer] = []
        with self.autocast():
            found = [self._find(question) for question in asked]
            for start in range(0, len(found), batch_size):
                batch, started = found[start : start + batch_size], time.perf_counter()
                records = [each.record for each in batch]
                passages = [record.passages for record in records]
                replies = self.answerer.texts(records, passages, [each.scores for each in batch])
                share = (time.perf_counter() - started) / len(batch)
                for each, reply in zip(batch, replies, strict=True):
                    answers.append(self._answer(replace(each, at=time.perf_counter() - share), reply))
        return answers

    def stream(self, question: str) -> Generator[str, None, Answer]:
        """As `ask`, but the reply comes in pieces while it is written, which make `Answer.reply` when they are joined;
        the `Answer` is what the generator returns (`answer = yield from asker.stream(question)`).

        Closing it ends the writing. Until then the model is in use, and other questions raise.
        """
        asked = checked_question(question)
        with self.autocast():
            found = self._find(asked)
            pieces = self.answerer.stream(found.record, found.record.passages, found.scores)
        told = []
        with closing(pieces):
            for piece in pieces:
                told.append(piece)
                yield piece
        with self.autocast():
            return self._answer(found, "".join(told))

    def _find(self, asked: str) -> _Found:
        """The passages of a question, and their adapters in the library."""
        self.answerer.llm.check_free()
        if self.on_demand is None:
            return _Found(AugmentedQuestion(Question(0, asked), ()), (), 0, {}, time.perf_counter())
        (record,) = self.on_demand.passages([Question(0, asked)])
        hits = [self.on_demand.hits[passage.passage] for passage in record.passages]
        passages = tuple(
            UsedPassage(h.passage.id, h.passage.title, h.passage.text, h.score, h.passage.source) for h in hits
        )
        return _Found(record, passages, self.on_demand.encoded, dict(self.on_demand.seconds), time.perf_counter())

    def _answer(self, found: _Found, reply: str) -> Answer:
        seconds = {**found.seconds, "answer": time.perf_counter() - found.at}
        started, record = time.perf_counter(), found.record
        (log_probability,) = self.answerer.log_probabilities([record], [reply], [record.passages], [found.scores])
        seconds["confidence"] = time.perf_counter() - started
        return Answer(
            question=record.question.question,
            answer=extract_answer(reply, self.answerer.with_cot, "full"),
            reply=reply.strip(),
            method=self.answerer.method,
            passages=found.passages,
            encoded=found.encoded,
            seconds=seconds,
            log_probability=log_probability,
            abstained=self.answerer.abstains(log_probability),
        )


@dataclass(frozen=True)
class _Found:
    """What was found for a question.

    Args:
        record: It with its passages.
        passages: The same as the retriever found them.
        encoded: How many adapters were made for it.
        seconds: What it took, by kind of work.
        at: When it was found.
    """

    record: AugmentedQuestion
    passages: tuple[UsedPassage, ...]
    encoded: int
    seconds: dict[str, float]
    at: float

    @property
    def scores(self) -> list[float]:
        """Of the passages, in retrieval."""
        return [passage.score for passage in self.passages]


def checked_question(question: str) -> str:
    """A question without blanks around it.

    Raises:
        InputError: if it is empty, or no text.
    """
    if not isinstance(question, str):
        raise InputError(f"{question!r} is no question", hint="Give a text")
    asked = question.strip()
    if any("\ud800" <= char <= "\udfff" for char in asked):
        raise InputError("the question is not UTF-8", where=ascii(asked[:60]), hint="Ask it in that encoding")
    if not any(char.isalnum() for char in asked):
        raise InputError("the question is empty", hint='Ask one, as in: prag ask --config FILE "Who wrote Emma?"')
    return asked
