"""Files that are never half written, and journals that survive being killed."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from types import MappingProxyType, UnionType

import psutil
import yaml

from prag_lightning.errors import InputError
from prag_lightning.records import Json

UNFINISHED = ".unfinished"
"""Ends the name of work in progress."""
_NUMBERS = itertools.count()
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
_LONGEST_NAME = 200
"""Bytes of a part of a path: what is written beside it has some more, and 255 is all that file systems take."""
_PIECE = 2**16
_NONE: Mapping[str, type] = MappingProxyType({})
_MOST_VALUES, _LONGEST_YAML = 100_000, 2**20
"""Of a YAML file: values, and characters."""
_NO_YAML = (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, OverflowError, RecursionError)
"""What PyYAML raises: its own errors, and for scalars such as `!!bool maybe` or 2001-99-99 those of the conversion."""


def unfinished(path: Path) -> Path:
    """A name beside `path` for work in progress: this process's own, and told for rubbish by `sweep` once that is
    gone."""
    return path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}-{next(_NUMBERS)}{UNFINISHED}")


def sweep(folder: Path, name: str = "*") -> None:
    """Delete what killed processes of this machine left unfinished in `folder` for the path of that name."""
    for path in folder.glob(f".{name}.{platform.node()}-*{UNFINISHED}"):
        pid = path.name.removesuffix(UNFINISHED).split("-")[-2]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors of the disk name `path`, which writing does not, and not the work in progress beside it."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file beside its place and rename it into it: readers see the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, path.name)
    beside = unfinished(path)
    try:
        with naming(path), beside.open("x", encoding="utf-8", errors="replace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with naming(path):
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


def read_json(path: Path, mend: str) -> Json:
    """Read a JSON file.

    Raises:
        InputError: if it is missing, or where it stops being JSON; `mend` says what to do.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the file: {error.strerror}", where=str(path), mend=mend) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"the file is not JSON: {error}", where=str(path), mend=mend) from error


def read_yaml(path: Path, what: str, mend: str) -> dict[str, Json]:
    """Read a YAML file that holds a mapping; no tag in it makes an object.

    Raises:
        InputError: if it is missing, no YAML, or holds something else; `what` names its purpose and `mend` says what
            to do.
    """
    try:
        data = _parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the {what}: {error.strerror}", where=str(path), mend=mend) from error
    except _NO_YAML as error:
        raise InputError(f"the {what} is not YAML: {error}", where=str(path), mend=mend) from error
    if not isinstance(data, dict):
        raise InputError(f"the {what} holds no settings", where=str(path), mend=mend)
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
            mend="Rename it: no slashes, no control characters, no leading dot, no more than 200 bytes",
        )
    return name


class Journal:
    """An append-only file of finished pieces of work, by key: a line each, on disk at once.

    Each process appends to a file of its own and reads all of them. A line that a killed process, or a full disk, left
    torn is dropped. Two commands may append to one file at once: a line is written, and the torn end cut off, under a
    lock.

    Args:
        directory: Where the files `journal-{rank}.jsonl` stand.
        rank: Number of this process.
        fields: What each entry has beside its `key`, and of what type.
    """

    def __init__(self, directory: Path, rank: int = 0, fields: Mapping[str, type | UnionType] = _NONE) -> None:
        self.path = directory / f"journal-{rank}.jsonl"
        self.fields = {"key": str, **fields}
        self._entries: dict[str, Json] = {}
        self.reload()

    def reload(self) -> None:
        """Read what all processes have written up to now."""
        for path in sorted(self.path.parent.glob("journal-*.jsonl")):
            self._read(path)

    def _read(self, path: Path) -> None:
        """Take in the whole lines of a file."""
        length = 0
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    entry = parse_json(line.decode("utf-8"))
                except (ValueError, RecursionError):
                    entry = None
                if not self._is_entry(entry):
                    raise InputError(
                        "a line of the journal is damaged",
                        where=f"{path}, byte {length}",
                        mend="Delete that line; only its piece of work is done again",
                    )
                length += len(line)
                self._entries[entry["key"]] = entry

    def _is_entry(self, entry: Json) -> bool:
        return isinstance(entry, dict) and all(isinstance(entry.get(name), kind) for name, kind in self.fields.items())

    def get(self, key: str) -> Json | None:
        """The entry of `key`, if that piece of work is done."""
        return self._entries.get(key)

    def add(self, entries: Iterable[Mapping[str, Json]]) -> None:
        """Append entries, each with its `key`, and see them on disk."""
        added = {str(entry["key"]): dict(entry) for entry in entries}
        if not added:
            return
        lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in added.values())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with naming(self.path), self.path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _cut_torn_line(file)
            whole = file.seek(0, os.SEEK_END)
            try:
                _write_all(file, lines.encode("utf-8", "replace"))
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(whole)
                raise
        self._entries |= added


def _cut_torn_line(file: FileIO) -> None:
    """Cut off what follows the last line break: whoever wrote it is dead, or would hold the lock."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _PIECE)
        file.seek(start)
        last = (file.read(end - start) or b"").rfind(b"\n")
        if last >= 0:
            file.truncate(start + last + 1)
            return
        end = start
    file.truncate(0)


def _write_all(file: FileIO, content: bytes) -> None:
    while content:
        content = content[file.write(content) or 0 :]
