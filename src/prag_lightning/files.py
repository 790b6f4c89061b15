"""Files that are never half written, and journals that survive being killed."""

from __future__ import annotations

import itertools
import json
import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil
import yaml

from prag_lightning.errors import InputError
from prag_lightning.records import Json

UNFINISHED = ".unfinished"
"""Ends the name of work in progress."""
_NUMBERS = itertools.count()


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


def write_text(path: Path, text: str) -> None:
    """Write a file beside its place and rename it into it: readers see the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, path.name)
    beside = unfinished(path)
    try:
        with beside.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Json) -> None:
    """Write indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=4, ensure_ascii=False) + "\n")


def read_json(path: Path, mend: str) -> Json:
    """Read a JSON file.

    Raises:
        InputError: if it is missing, or where it stops being JSON; `mend` says what to do.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
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
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the {what}: {error.strerror}", where=str(path), mend=mend) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"the {what} is not YAML: {error}", where=str(path)) from error
    if not isinstance(data, dict):
        raise InputError(f"the {what} holds no settings", where=str(path), mend=mend)
    return data


def safe_name(name: str, what: str) -> str:
    """A name from data or settings, fit to be a part of a path.

    Raises:
        InputError: if it is empty, hidden, or would lead elsewhere.
    """
    if not name or name.startswith(".") or any(char in "/\\" or ord(char) < 32 for char in name) or len(name) > 200:
        raise InputError(
            f"{name!r} cannot be a part of a path", where=what, mend="Rename it: no slashes, no leading dot"
        )
    return name


class Journal:
    """An append-only file of finished pieces of work, by key: a line each, on disk at once.

    Each process appends to a file of its own and reads all of them. A line that a killed process left torn is dropped.

    Args:
        directory: Where the files `journal-{rank}.jsonl` stand.
        rank: Number of this process.
    """

    def __init__(self, directory: Path, rank: int = 0) -> None:
        self.path = directory / f"journal-{rank}.jsonl"
        self._entries: dict[str, Json] = {}
        self.reload()

    def reload(self) -> None:
        """Read what all processes have written up to now."""
        for path in sorted(self.path.parent.glob("journal-*.jsonl")):
            whole = self._read(path)
            if path == self.path and whole < path.stat().st_size:
                os.truncate(path, whole)

    def _read(self, path: Path) -> int:
        """Take in the whole lines of a file, and give the length in bytes of what they fill."""
        length = 0
        with path.open("rb") as file:
            for line in file:
                try:
                    entry = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    entry = None
                if not isinstance(entry, dict) or not isinstance(entry.get("key"), str):
                    if line.endswith(b"\n"):
                        raise InputError(
                            "a line of the journal is damaged",
                            where=f"{path}, byte {length}",
                            mend="Delete that line; only its piece of work is done again",
                        )
                    break
                length += len(line)
                self._entries[entry["key"]] = entry
        return length

    def get(self, key: str) -> Json | None:
        """The entry of `key`, if that piece of work is done."""
        return self._entries.get(key)

    def add(self, entries: Iterable[Mapping[str, Json]]) -> None:
        """Append entries, each with its `key`, and see them on disk."""
        lines = []
        for entry in entries:
            self._entries[entry["key"]] = dict(entry)
            lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
        if lines:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(lines))
                file.flush()
                os.fsync(file.fileno())
