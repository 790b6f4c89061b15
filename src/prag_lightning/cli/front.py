"""What `prag` answers at once: help, version, the list of commands, and what a mistyped one may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from prag_lightning.errors import InputError


@dataclass(frozen=True)
class Command:
    """A command of `prag`.

    Args:
        name: One word, or two.
        help: What it does, in a line.
        example: What to type behind `prag`.
    """

    name: str
    help: str
    example: str


_GROUPS = {
    "To begin with": (
        Command("demo", "the whole pipeline on the embedded model and a made-up world, in minutes", ""),
        Command("init", "write an experiment that runs as it is, to be made one's own", "FOLDER"),
    ),
    "The stages, in order, each with the same configuration file": (
        Command("augment", "the LLM rewrites passages and asks itself questions about them", "--config FILE"),
        Command("fit", "passages become adapters (or a warm-up is trained)", "--config FILE"),
        Command("test", "questions are answered and scored", "--config FILE"),
        Command("predict", "questions without gold answers are answered", "--config FILE"),
        Command("report", "all results as a table, and as a page with intervals and comparisons", "FOLDER"),
    ),
    "Documents and questions of your own": (
        Command("sync", "documents become adapters: what is new, changed or gone", "--documents FOLDER"),
        Command("forget", "a document leaves no trace", "ID"),
        Command("serve", "a server that speaks OpenAI's API, with a page", "--store FOLDER"),
        Command("ask", "answered from the passages found for it", '--store FOLDER "Where was Ada Lovelace born?"'),
    ),
    "Before and beside them": (
        Command("plan", "what is left to do, how long it takes and how much it holds", "--config FILE"),
        Command("check", "every adapter is looked at: damaged, missing or out of date", "--config FILE"),
        Command("export", "adapters of questions or passages, for PEFT, vLLM, llama.cpp", "--config FILE --out FOLDER"),
        Command("corpus", "cut documents of your own into passages", "--documents FOLDER --out FILE"),
        Command("index", "make the index of a retriever that keeps one", "--config FILE"),
        Command("data check", "what is there of the questions, the corpus and its index", "--config FILE"),
        Command("warmup-data", "draw the questions of a warm-up, which prag fit then trains", "--config FILE"),
        Command("completion", "print what makes a shell complete prag's commands and options", "bash"),
    ),
}
COMMANDS = {command.name: command for group in _GROUPS.values() for command in group}


def help_text() -> str:
    """What `prag --help` prints."""
    width = max(map(len, COMMANDS)) + 2
    lines = [
        "usage: prag COMMAND [--config FILE] [--NAME VALUE ...]",
        "",
        "Parametric RAG: passages become LoRA adapters,",
    ]
    lines[-1] += " questions are answered from weights."
    for title, commands in _GROUPS.items():
        lines += ["", f"{title}:", *(f"  {command.name:{width}}{command.help}" for command in commands)]
    lines += [
        "",
        "Start with:",
        "  prag demo",
        '  prag ask --config configs/demo.yaml "Which country does Helstead belong to?"',
        "Any value of a file can be overridden:",
        "  prag test --config configs/demo.yaml --model.inference_method combine",
        "The settings of a command: prag COMMAND --help (the usual ones), prag COMMAND --help-all (every one).",
        "prag --version prints the version.",
    ]
    return "\n".join(lines)


def command_of(args: list[str]) -> tuple[str, list[str]]:
    """The command that a command line begins with, and what follows it.

    Raises:
        InputError: if there is none of that name; the hint has the nearest.
    """
    for words in (2, 1):
        name = " ".join(args[:words])
        if len(args) >= words and name in COMMANDS:
            return name, args[words:]
    first = args[0]
    if first.startswith("-"):
        raise InputError(
            f"the command comes first, and {first!r} is none", hint=f"Give it first, as in: prag test {first} …"
        )
    wanted = next((" ".join(args[:2]) for name in COMMANDS if name.startswith(f"{first} ")), first)
    near = get_close_matches(wanted, COMMANDS, n=1, cutoff=0.5)
    raise InputError(f"there is no command {wanted!r}", hint=f"Did you mean {near[0]}?" if near else "See prag --help")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What a mistyped word may have meant, as a question; empty if nothing is near. Of a dotted name the last part
    counts, wherever it stands."""
    group, _, end = word.rpartition(".")
    siblings_last = sorted(known, key=lambda name: name.rpartition(".")[0] == group)
    by_end = {name.rpartition(".")[2]: name for name in siblings_last}
    near = get_close_matches(end, by_end, n=1, cutoff=0.6)
    return f"Did you mean {by_end[near[0]]}?" if near else ""
