"""Asking questions of one's own, one after the other, and showing where the answers come from."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.markup import escape

from prag_lightning.errors import InputError, PragError, print_error
from prag_lightning.inference.answerer import Answerer
from prag_lightning.inference.methods import uses_adapters
from prag_lightning.inference.on_demand import OnDemand
from prag_lightning.metrics import extract_answer
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
        InputError: if none is given anywhere.
    """
    if question is not None:
        show(asker.ask(question))
        return
    number = 0
    for number, line in enumerate(_lines(), 1):
        try:
            show(asker.ask(line))
        except PragError as error:
            print_error(str(error))
    if not number and not _on_terminal():
        raise InputError(
            "there is no question, and no terminal to ask for one",
            where="the standard input is empty",
            hint='Give one, as in: prag ask --config FILE "Who wrote Emma?"',
        )


def _on_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _lines() -> Iterator[str]:
    """Lines that are not empty, of a prompt or of the standard input; bytes that are no UTF-8 come as surrogates."""
    if sys.stdin is None:
        return
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    while line := _typed() if _on_terminal() else sys.stdin.readline():
        if line.strip():
            yield line


def _typed() -> str:
    """A line typed at the prompt, which can be edited and called back; empty when the terminal says that it was the
    last."""
    if not sys.stdout.isatty():
        print(PROMPT, end="", file=sys.stderr, flush=True)
        return sys.stdin.readline()
    with suppress(ImportError):  # not on Windows; once imported, it is what input() reads by
        import readline  # noqa: F401
    try:
        return input(PROMPT) + "\n"
    except EOFError:
        print()
        return ""
    except KeyboardInterrupt:
        print()
        raise


def show_json(answer: Answer) -> None:
    """Print an answer as one line of JSON."""
    print(json.dumps(asdict(answer), ensure_ascii=False), flush=True)


def show_text(answer: Answer) -> None:
    """Print an answer for a person: itself, the passages with their scores, and what took how long."""
    console = Console(highlight=False)
    console.print(f"[bold]{escape(answer.answer or answer.reply)}[/bold]", soft_wrap=True)
    for passage in answer.passages:
        title = f"{passage.title}: " if passage.title else ""
        line = f"  {passage.score:6.2f}  {escape(title + passage.text)}"
        if console.is_terminal:
            console.print(line, style="dim", no_wrap=True, overflow="ellipsis")
        else:
            console.print(line, soft_wrap=True)
    if not answer.passages and answer.method != "vanilla":
        console.print("  no passage was found: the model answers from what it knows", style="dim", soft_wrap=True)
    times = ", ".join(f"{work} {seconds:.2f} s" for work, seconds in answer.seconds.items())
    made = f"; {answer.encoded} adapter{'s' * (answer.encoded > 1)} made" if answer.encoded else ""
    console.print(f"  {answer.method}: {times}{made}", style="dim", soft_wrap=True)
