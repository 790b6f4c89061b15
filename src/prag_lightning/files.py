"""Files that are never half written, and journals that survive being killed."""

from __future__ import annotations

import itertools
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import yaml

from prag_lightning.errors import InputError
from prag_lightning.records import Json

TEMP_SUFFIX = ".unfinished"
"""Ends the name of work in progress."""
_NUMBERS = itertools.count()
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
_LONGEST_NAME = 200
"""Bytes of a part of a path: what is written beside it has some more, and 255 is all that file systems take."""
_MOST_VALUES, _LONGEST_YAML = 100_000, 2**20
"""Of a YAML file: values, and characters."""
_NO_YAML = (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, OverflowError, RecursionError)
"""What PyYAML raises: its own errors, and for scalars such as `!!bool maybe` or 2001-99-99 those of the conversion."""


def temp_path(path: Path) -> Path:
    """A name beside `path` for work in progress: this process's own; once that is gone, `remove_stale_temp` deletes
    it."""
    return path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}-{next(_NUMBERS)}{TEMP_SUFFIX}")


def remove_stale_temp(folder: Path, name: str = "*") -> None:
    """Delete what killed processes of this machine left unfinished in `folder` for the path of that name."""
    for path in folder.glob(f".{name}.{platform.node()}-*{TEMP_SUFFIX}"):
        pid = path.name.removesuffix(TEMP_SUFFIX).split("-")[-2]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def path_in_errors(path: Path) -> Iterator[None]:
    """Let errors of the disk name `path`, which writing does not, and not the work in progress beside it."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file beside its place and rename it into it: readers see the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_temp(path.parent, path.name)
    beside = temp_path(path)
    try:
        with path_in_errors(path), beside.open("x", encoding="utf-8", errors="replace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with path_in_errors(path):
            beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Json) -> None:
    """Write indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=4, ensure_ascii=False) + "\n")


def parse_json(text: str) -> Json:
    """Parse JSON; half a character (a lone surrogate), which JSON may hold and no file can, becomes a question mark.

    Raises:
        ValueError: if it is no JSON.
        RecursionError: if it is nested too deeply.
    """
    value = json.loads(text)
    if _HALF_CHARACTER.search(text):
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return value


def read_json(path: Path, hint: str) -> Json:
    """Read a JSON file.

    Raises:
        InputError: if it is missing, or where it stops being JSON; `hint` says what to do.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the file: {error.strerror}", where=str(path), hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"the file is not JSON: {error}", where=str(path), hint=hint) from error


def read_yaml(path: Path, what: str, hint: str) -> dict[str, Json]:
    """Read a YAML file that holds a mapping; no tag in it makes an object.

    Raises:
        InputError: if it is missing, no YAML, or holds something else; `what` names its purpose and `hint` says what
            to do.
    """
    try:
        data = _parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the {what}: {error.strerror}", where=str(path), hint=hint) from error
    except _NO_YAML as error:
        raise InputError(f"the {what} is not YAML: {error}", where=str(path), hint=hint) from error
    if not isinstance(data, dict):
        raise InputError(f"the {what} holds no settings", where=str(path), hint=hint)
    return data


def _parse_yaml(text: str) -> Json:
    """Parse YAML that makes plain values alone.

    Aliases let a file of one page unfold into more than memory holds, so its values are counted before they are made.
    """
    if len(text) > _LONGEST_YAML:
        raise ValueError(f"it has {len(text):,} characters")
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _values(node, {}) > _MOST_VALUES:
            raise ValueError(f"its aliases unfold into more than {_MOST_VALUES:,} values")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _values(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """How many values a node unfolds into."""
    if node not in known:
        if isinstance(node, yaml.ScalarNode) and "\0" in node.value:
            raise ValueError("it holds a nul character")
        known[node] = _MOST_VALUES + 1  # for a node that holds itself
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
        known[node] = 1 + sum(_values(part, known) for part in parts)
    return known[node]


def safe_name(name: str, what: str) -> str:
    """A name from data or settings, fit to be a part of a path.

    Raises:
        InputError: if it is empty, hidden, or would lead elsewhere.
    """
    stray = any(char in "/\\" or not char.isprintable() for char in name)
    if not name or name.startswith(".") or stray or len(name.encode("utf-8", "replace")) > _LONGEST_NAME:
        raise InputError(
            f"{name!r} cannot be a part of a path",
            where=what,
            hint="Rename it: no slashes, no control characters, no leading dot, no more than 200 bytes",
        )
    return name
