"""`prag ask`: questions of one's own, one after the other, and where the answers come from."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape

from prag_lightning.errors import InputError, PragError, print_error
from prag_lightning.inference.asker import Answer, Asker

PROMPT = "question> "


def ask(asker: Asker, question: str | None = None, *, as_json: bool = False) -> None:
    """Answer the question that was given; else those that are typed at a prompt, or stand line by line in the standard
    input, until its end.

    Args:
        asker: Answers.
        question: Unset means those that are typed or read.
        as_json: Print each answer, with its passages and timings, as a line of JSON.

    Raises:
        PragError: if the question that was given cannot be answered; those at a prompt are told apart.
        InputError: if none is given anywhere.
    """
    show = show_json if as_json else show_text
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
    console.print(f"[bold]{escape(answer.text)}[/bold]", soft_wrap=True)
    if answer.abstained:
        console.print(f"  an unsure guess: {escape(answer.answer or answer.reply)}", style="dim", soft_wrap=True)
    for passage in answer.passages:
        title = f"{passage.title}: " if passage.title and not passage.text.startswith(passage.title) else ""
        line = f"  {passage.score:6.2f}  {escape(title + passage.text)}"
        if console.is_terminal:
            console.print(line, style="dim", no_wrap=True, overflow="ellipsis")
        else:
            console.print(line, soft_wrap=True)
        if passage.source is not None:
            console.print(f"          {escape(str(passage.source))}", style="dim", soft_wrap=True)
    if not answer.passages and answer.method != "vanilla":
        console.print("  no passage was found: the model answers from what it knows", style="dim", soft_wrap=True)
    times = ", ".join(f"{work} {seconds:.2f} s" for work, seconds in answer.seconds.items())
    made = f"; {answer.encoded} adapter{'s' * (answer.encoded > 1)} made" if answer.encoded else ""
    console.print(f"  {answer.method}: {times}{made}", style="dim", soft_wrap=True)
    console.print(f"  log-probability of a token {answer.log_probability:.2f}", style="dim", soft_wrap=True)
