"""What the parsers of all `prag` commands share: errors of one line, and help that begins with the usual settings."""

from __future__ import annotations

import argparse
import json
import re
from argparse import RawDescriptionHelpFormatter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from prag_lightning import retrieval
from prag_lightning.cli.config_files import config_files, read_config
from prag_lightning.cli.front import did_you_mean
from prag_lightning.errors import InputError, PragError
from prag_lightning.files import read_yaml
from prag_lightning.records import Json

_UNKNOWN = re.compile(r"unrecognized arguments: (-\S+|.*)")
_NEEDS_VALUE = re.compile(r"argument (\S+): expected (?:one|at least one) argument")
_REQUIRED = re.compile(r"the following arguments are required: (\S+)")
_OF_A_KEY = re.compile(r'Parser key "([^"]*)":\s*(.*)', re.DOTALL)
_VALUE = re.compile(r"(?:Got|Given) value: (.*)\Z", re.DOTALL)
_CLASS = re.compile(
    r"Problem with given class_path '([^']*)':?\s*(.*?)\s*(?:- Expected a|Given value type|\Z)", re.DOTALL
)
_FACTS = re.compile(
    r"\s*\((?P<required>required)?(?:, )?(?:type: .*?)?(?:(?:, )?default: (?P<default>.*))?\)\Z", re.DOTALL
)
"""What jsonargparse's help ends in."""
_CLASSES = (
    *(f"prag_lightning.{name}" for name in ("WarmupModule", "WarmupDataModule")),
    *(f"prag_lightning.retrieval.{name}" for name in retrieval.__all__ if name.endswith("Retriever")),
)
"""What configurations name by class_path."""
_NOUNS: dict[object, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    NoneType: "null",
}


class HelpFormatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """jsonargparse's help, with the line breaks of descriptions kept, and defaults without the names of types."""

    def _expand_help(self, action: argparse.Action) -> str:
        text = super()._expand_help(action)
        found = _FACTS.search(text)
        if found is None:
            return text
        facts = "required" if found["required"] else f"default: {found['default']}"
        return text[: found.start()] + ("" if facts in ("default: None", "default: null") else f" ({facts})")


class OneLineErrors(ArgumentParser):
    """A parser whose errors are one line, which names the setting, its file and what may stand there."""

    files: Sequence[Path] = ()
    """The configuration files of the command line, for messages."""

    def check_files(self, args: Sequence[str]) -> None:
        """See that the configuration files of a command line hold nothing but settings.

        Args:
            args: The command line, as `with_bases` gives it.

        Raises:
            InputError: naming file and key.
        """
        self.files = config_files(args)
        for path in self.files:
            self._check_keys(path)

    def parse_path(self, cfg_path: Any, **options: Any) -> Namespace:
        """Read a configuration file with its inputs where they are found."""
        settings: Namespace = self.parse_string(json.dumps(read_config(Path(str(cfg_path)))), **options)
        return settings

    def instantiate(self, *args: Any, **options: Any) -> Any:
        """Make objects of settings.

        Raises:
            PragError: what a class says of its arguments.
        """
        try:
            return super().instantiate(*args, **options)
        except ValueError as error:
            if isinstance(error.__cause__, PragError):  # jsonargparse wraps what a class given by class_path raises
                raise error.__cause__ from None
            raise

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the message in the shape of all errors; parsers within a parser raise it for that one."""
        if not self.exit_on_error:
            super().error(message, ex)
        raise self._explained(message) from None

    def _explained(self, message: str) -> InputError:
        if found := _UNKNOWN.search(message):
            if not found[1].startswith("-"):
                return InputError(f"{found[1]!r} is too much", hint=f"See {self.prog} --help")
            word = found[1].partition("=")[0]
            options = (option for action in self._actions for option in action.option_strings)
            hint = did_you_mean(word, options) or f"See {self.prog} --help-all"
            return InputError(f"there is no option {word}", hint=hint)
        if found := _NEEDS_VALUE.search(message):
            return InputError(f"{found[1].rpartition('/')[2]} needs a value", hint=f"See {self.prog} --help")
        if found := _REQUIRED.match(message):
            return self._unset(found[1])
        found = _OF_A_KEY.search(message)
        key, text = found.groups() if found else ("", message)
        if self._type(key) is str and "value: None" in text:
            return self._unset(key)
        if found := _CLASS.search(text):
            reason = _plain(found[2]) or "it cannot be made so"
            near = did_you_mean(found[1], _CLASSES) if "no attribute" in reason or "No module" in reason else ""
            hint = near or "Mend its class_path or init_args"
            return InputError(f"{found[1]}: {reason}", where=self._where(key), hint=hint)
        value = _VALUE.search(text)
        kind = self._type(key)
        if value is None or kind is None:
            return InputError(_plain(text), where=self._where(key), hint=f"See {self.prog} --help-all")
        given = value[1].strip()
        words = [str(word) for word in choices(kind)]
        hint = did_you_mean(given, words) or f"Give {_noun(kind)}"
        return InputError(f"{key.rpartition('.')[2]} is {given!r}", where=self._where(key, given), hint=hint)

    def _unset(self, key: str) -> InputError:
        option = f"--{key}" if self._type(key) is not None else f"init_args.{key}"
        hint = f"Give {option}, or set it in the configuration" if self.files else f"Give --config FILE, or {option}"
        return InputError(f"{key} is not set", hint=hint)

    def _where(self, key: str, given: str | None = None) -> str:
        """A setting, and the configuration file that has it, with the value that was given if it is known."""
        for path in reversed(self.files):
            value: Json = read_yaml(path, "configuration", "")
            for part in key.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
            if value is not None and given in (None, str(value)):
                return f"{key} in {path}"
        return key

    def _type(self, key: str) -> Any:
        """The type of a setting; `None` for what is none."""
        action = next((action for action in self._actions if action.dest == key), None)
        return getattr(action, "_typehint", None)

    def _check_keys(self, path: Path) -> None:
        """See that every key of a configuration is a setting's.

        Raises:
            InputError: naming the first that is not.
        """
        known = {action.dest for action in self._actions if not action.dest.endswith(".help")}
        groups = {key.rpartition(".")[0] for key in known}
        groups = {group for group in groups | {group.rpartition(".")[0] for group in groups} if not self._type(group)}

        def check(values: Mapping[str, Json], prefix: str) -> None:
            for name, value in values.items():
                key = f"{prefix}{name}"
                if key in groups and value is not None:
                    if not isinstance(value, Mapping):
                        raise InputError(f"{key!r} holds no settings", where=str(path), hint="Put settings below it")
                    check(value, f"{key}.")
                elif key not in known:
                    near = did_you_mean(key, known | groups)
                    raise InputError(
                        f"there is no setting {key!r}", where=str(path), hint=near or f"See {self.prog} --help-all"
                    )

        check(read_yaml(path, "configuration", ""), "")


def add_files(parser: ArgumentParser) -> None:
    """Take configuration files, which may build on others."""
    parser.add_argument(
        "-c", "--config", action="config", help="A configuration file; later ones override earlier ones."
    )
    parser.add_argument("--base", type=list[str] | str | None, help=argparse.SUPPRESS)


def show_usual(parser: ArgumentParser, usual: Collection[str]) -> None:
    """Leave the other settings out of the help, and say how to see them."""
    for action in parser._actions:
        if action.dest not in usual and action.dest != "help":
            action.help = argparse.SUPPRESS
    for group in parser._action_groups:
        if all(action.help is argparse.SUPPRESS for action in group._group_actions):
            group.title = group.description = None
    parser.epilog = f"These are the usual settings. Every one: {parser.prog} --help-all"


def _noun(kind: Any) -> str:
    """What may stand for a type, as a person says it."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return str(args[0]) if len(args) == 1 else f"one of {', '.join(map(str, args))}"
    if origin in (Union, UnionType):
        return " or ".join(_noun(arg) for arg in args)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "names with values"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return "a list such as [a, b]"
    return _NOUNS.get(kind, "a class_path with its init_args")


def _plain(text: str) -> str:
    """What a class given by class_path says of its arguments, in our words."""
    text = _OF_A_KEY.sub(r"\1: \2", " ".join(text.split()))
    text = _REQUIRED.sub(r"\1 is not set", text)
    for kind, noun in _NOUNS.items():
        text = text.replace(f"Expected a {kind}", f"it must be {noun}")
    text = text.replace("Got value: ", "It is ")
    return re.sub(r"Option '([^']*)' is not accepted", r"there is no setting '\1'", text).rstrip(".")


def choices(kind: Any) -> Iterator[object]:
    """The words that may stand for a type."""
    if get_origin(kind) is Literal:
        yield from get_args(kind)
    for arg in get_args(kind):
        yield from choices(arg)
