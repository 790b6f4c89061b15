"""Journals: append-only files of finished work that survive being killed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from io import FileIO
from pathlib import Path
from types import MappingProxyType, UnionType

from filelock import FileLock

from prag_lightning.errors import InputError
from prag_lightning.files import parse_json, path_in_errors
from prag_lightning.records import Json

_PIECE = 2**16
_NONE: Mapping[str, type] = MappingProxyType({})


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
                except ValueError:
                    entry = None
                if not self._is_entry(entry):
                    raise InputError(
                        "a line of the journal is damaged",
                        where=f"{path}, byte {length}",
                        hint="Delete that line; only its piece of work is done again",
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
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        with path_in_errors(self.path), lock, self.path.open("a+b", buffering=0) as file:
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
