"""`prag completion`: what makes a shell complete commands and options."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser
from collections.abc import Sequence
from typing import Any

import jsonargparse

from prag_lightning.cli.data import data_command_parser
from prag_lightning.cli.experiments import experiment_command_parser
from prag_lightning.cli.front import COMMANDS
from prag_lightning.cli.parser import choices
from prag_lightning.cli.settings import experiment_parser
from prag_lightning.errors import InputError

_FILES = ("--config", "--out", "--documents", "--store", "--data.data_path", "--data.corpus", "--data.prompts")
SHELLS = ("bash", "zsh", "tcsh")


def print_completion(command: str, args: Sequence[str]) -> None:
    """Print the script of a shell.

    Raises:
        InputError: if none is named, or one that is not known.
    """
    if len(args) != 1 or args[0] not in SHELLS:
        raise InputError(
            f"prag {command} takes the name of a shell",
            hint=f'Give one of {", ".join(SHELLS)}, as in: eval "$(prag completion bash)"',
        )
    import shtab

    print(shtab.complete(_prag_parser(shtab.FILE), args[0]))


def _prag_parser(file: Any) -> ArgumentParser:
    """All commands and their options as one plain parser."""
    parser = ArgumentParser(prog="prag")
    parser.add_argument("--version", action="store_true", help="print the version")
    levels = {"": parser.add_subparsers()}
    for name, command in COMMANDS.items():
        group, _, word = name.rpartition(" ")
        if group not in levels:
            levels[group] = levels[""].add_parser(group, help=command.help).add_subparsers()
        own = levels[group].add_parser(word, help=command.help)
        if name in ("completion", "init"):
            own.add_argument("shell", choices=SHELLS) if name == "completion" else own.add_argument("folder")
            continue
        for action in _parser_of(name)._actions:
            if not action.option_strings or action.dest == "help" or action.help is SUPPRESS:
                continue
            words = [str(word) for word in choices(getattr(action, "_typehint", None))]
            added = own.add_argument(*action.option_strings, help=action.help, choices=words or None)
            if action.option_strings[-1] in _FILES:
                added.complete = file  # type: ignore[attr-defined]
    return parser


def _parser_of(command: str) -> jsonargparse.ArgumentParser:
    if command in ("corpus", "index", "data check"):
        return data_command_parser(command)
    if command in ("plan", "ask", "check", "export", "report"):
        return experiment_command_parser(command)
    return experiment_parser(command)
