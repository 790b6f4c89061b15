"""Asking questions of one's own, one after the other, and showing where the answers come from."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.markup import escape

from prag_lightning.answer import uses_adapters
from prag_lightning.answerer import Answerer
from prag_lightning.command_line import print_error
from prag_lightning.errors import InputError, PragError
from prag_lightning.metrics import extract_answer
from prag_lightning.on_demand import OnDemand
from prag_lightning.records import AugmentedQuestion, Question

PROMPT = "question> "


@dataclass(frozen=True)
class UsedPassage:
    """A passage that an answer rests on, as the retriever found it."""

    id: str
    title: str
    text: str
    score: float


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
    """

    answerer: Answerer
    on_demand: OnDemand | None

    def ask(self, question: str) -> Answer:
        """Answer one question.

        Raises:
            InputError: if it is empty.
        """
        asked = question.strip()
        if not asked.strip("?"):
            raise InputError("the question is empty", mend='Ask one, as in: prag ask --config FILE "Who wrote Emma?"')
        seconds: dict[str, float] = {}
        passages: tuple[UsedPassage, ...] = ()
        record = AugmentedQuestion(Question(0, asked), ())
        if self.on_demand is not None:
            (record,) = self.on_demand.passages([record.question])
            seconds |= self.on_demand.seconds
            hits = [self.on_demand.hits[passage.passage] for passage in record.passages]
            passages = tuple(UsedPassage(h.passage.id, h.passage.title, h.passage.text, h.score) for h in hits)
        started = time.perf_counter()
        scores = [[passage.score for passage in passages]] if uses_adapters(self.answerer.method) else ()
        (reply,) = self.answerer.texts([record], [record.passages], scores)
        seconds["answer"] = time.perf_counter() - started
        extracted = extract_answer(reply, self.answerer.with_cot, "full")
        encoded = 0 if self.on_demand is None else self.on_demand.encoded
        return Answer(asked, extracted, reply.strip(), self.answerer.method, passages, encoded, seconds)


def answer_all(asker: Asker, question: str | None, show: Callable[[Answer], None]) -> None:
    """Answer the question that was given; else those that are typed at a prompt, or stand line by line in the standard
    input, until its end.

    Raises:
        PragError: if the question that was given cannot be answered; those at a prompt are told apart.
    """
    if question is not None:
        show(asker.ask(question))
        return
    for line in _lines():
        try:
            show(asker.ask(line))
        except PragError as error:
            print_error(str(error))


def _lines() -> Iterator[str]:
    on_terminal = sys.stdin.isatty()
    while True:
        if on_terminal:
            print(PROMPT, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line


def show_json(answer: Answer) -> None:
    """Print an answer as one line of JSON."""
    print(json.dumps(asdict(answer), ensure_ascii=False), flush=True)


def show_text(answer: Answer) -> None:
    """Print an answer for a person: itself, the passages with their scores, and what took how long."""
    console = Console(highlight=False)
    console.print(f"[bold]{escape(answer.answer or answer.reply)}[/bold]")
    for passage in answer.passages:
        title = f"{passage.title}: " if passage.title else ""
        line = f"  {passage.score:6.2f}  {escape(title + passage.text)}"
        console.print(line, style="dim", no_wrap=True, overflow="ellipsis")
    times = ", ".join(f"{work} {seconds:.2f} s" for work, seconds in answer.seconds.items())
    made = f"; {answer.encoded} adapters made" if answer.encoded else ""
    console.print(f"  {answer.method}: {times}{made}", style="dim", soft_wrap=True)
