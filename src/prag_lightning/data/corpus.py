"""Passages of a corpus, read one by one."""

from __future__ import annotations

import csv
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from itertools import count
from math import ceil
from pathlib import Path
from typing import IO, Any, BinaryIO

from prag_lightning.errors import InputError
from prag_lightning.files import parse_json
from prag_lightning.progress import Progress
from prag_lightning.records import Json, Passage

BAD_ROWS_SHOWN = 20
_PASSAGES_BETWEEN_COUNTS = 1000
_LONGEST_ROW = 2**24
"""Characters of a row: a file without line breaks, or one that unpacks into gigabytes, is not read into memory."""
csv.field_size_limit(_LONGEST_ROW)


class CorpusReader:
    """Reads a corpus in a stream; rows that are no passage, or have the id of an earlier one, are counted and named,
    and the others go on.

    Args:
        path: `.tsv` with a header and the columns id, text, title, as DPR publishes, a line a passage; or `.jsonl`
            with these keys, where `contents` may stand for `text`. Either may be gzipped (`.gz`).

    Attributes:
        bad_rows: The first few rows that were skipped, each with its number and reason.
        bad_row_count: How many were skipped.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.bad_rows: list[str] = []
        self.bad_row_count = 0
        self._file: BinaryIO | None = None

    @property
    def megabytes(self) -> int:
        """The file's size in MB, as it is on disk; 0 if it is missing."""
        return ceil(self.path.stat().st_size / 1e6) if self.path.exists() else 0

    def with_progress(self, progress: Progress) -> Iterator[Passage]:
        """Passages in the order of the file; counts the MB that are read."""
        for number, passage in enumerate(self):
            if number % _PASSAGES_BETWEEN_COUNTS == 0 and self._file is not None:
                progress.advance(round(self._file.tell() / 1e6) - progress.done)
            yield passage
        progress.advance(self.megabytes - progress.done)

    def report_bad_rows(self) -> None:
        """Say on the standard error how many rows were skipped, and the first of them."""
        if self.bad_row_count:
            print(f"{self.path}: {self.bad_row_count} rows skipped, the first: {self.bad_rows[0]}", file=sys.stderr)

    def __iter__(self) -> Iterator[Passage]:
        """Passages in the order of the file.

        Raises:
            InputError: if the file is missing, of another format, cut short, or holds no passage.
        """
        suffix = Path(self.path.name.removesuffix(".gz")).suffix
        if suffix not in (".tsv", ".jsonl"):
            raise InputError("a corpus is a .tsv or .jsonl file, or either with .gz", where=str(self.path))
        self.bad_rows, self.bad_row_count = [], 0
        passages = row = 0
        taken = _Ids()
        try:
            with self.path.open("rb") as self._file, self._decoded(self._file) as file:
                for row, passage in self._tsv(file) if suffix == ".tsv" else self._jsonl(file):
                    if not taken.add(passage.id):
                        self._skip(row, f"id {passage.id} is that of an earlier row")
                        continue
                    passages += 1
                    yield passage
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise InputError(
                f"cannot read the corpus: {reason}", where=f"{self.path}, after row {row}", hint="Give a whole file"
            ) from error
        if not passages:
            bad = f"; {self.bad_rows[0]}" if self.bad_rows else ""
            raise InputError(
                f"the corpus holds no passage{bad}", where=str(self.path), hint="Give id, text and title a row"
            )

    def _decoded(self, file: BinaryIO) -> IO[str]:
        content: Any = gzip.GzipFile(fileobj=file) if self.path.suffix == ".gz" else file
        return io.TextIOWrapper(content, encoding="utf-8-sig")

    def _tsv(self, file: IO[str]) -> Iterator[tuple[int, Passage]]:
        rows = self._rows(file)
        _, first = next(rows, (1, ""))
        header = [name.strip().lower() for name in self._cells(1, first) or []]
        if header[:2] != ["id", "text"]:
            raise InputError(
                f"the first row is {header[:3]}",
                where=str(self.path),
                hint="It must name the columns id, text and title",
            )
        for number, line in rows:
            cells = self._cells(number, line)
            if cells is None:
                continue
            if len(cells) != len(header):
                self._skip(number, f"{len(cells)} columns instead of {len(header)}")
            elif not cells[1].strip():
                self._skip(number, "no text")
            else:
                title = cells[header.index("title")] if "title" in header else ""
                yield number, Passage(cells[1].strip(), cells[0], title)

    def _rows(self, file: IO[str]) -> Iterator[tuple[int, str]]:
        """The lines and their numbers, from 1; one that is too long is passed over in pieces."""
        for number in count(1):
            line = file.readline(_LONGEST_ROW)
            if not line:
                return
            if len(line) < _LONGEST_ROW or line.endswith("\n"):
                yield number, line
                continue
            self._skip(number, f"longer than {_LONGEST_ROW:,} characters")
            while line and not line.endswith("\n"):
                line = file.readline(_LONGEST_ROW)

    def _cells(self, number: int, line: str) -> list[str] | None:
        """The cells of one line, alone: a quote that is never closed costs its own row and none after it."""
        try:
            return next(csv.reader([line.rstrip("\n")], delimiter="\t"), [])
        except csv.Error as error:
            self._skip(number, str(error))
            return None

    def _jsonl(self, file: IO[str]) -> Iterator[tuple[int, Passage]]:
        for number, line in self._rows(file):
            try:
                value = parse_json(line)
            except (ValueError, RecursionError) as error:
                self._skip(number, f"no JSON: {error}")
                continue
            text = value.get("text", value.get("contents")) if isinstance(value, dict) else None
            if not isinstance(text, str) or not text.strip():
                self._skip(number, "no text")
            else:
                key = number if value.get("id") is None else value["id"]
                yield number, Passage(text.strip(), str(key), str(value.get("title") or ""))

    def _skip(self, number: int, reason: str) -> None:
        self.bad_row_count += 1
        if len(self.bad_rows) < BAD_ROWS_SHOWN:
            self.bad_rows.append(f"row {number}: {reason}")


def corpus_facts(path: Path) -> dict[str, Json]:
    """What tells one corpus file from another without reading it."""
    return {"corpus": path.name, "corpus_bytes": path.stat().st_size}


class _Ids:
    """Ids that were met: a bit each for numbers of up to nine digits, as DPR has them, and a set for others."""

    def __init__(self) -> None:
        self._marks = bytearray()
        self._others: set[str] = set()

    def add(self, key: str) -> bool:
        """Take an id in; false if it was there."""
        if len(key) > 9 or not key.isascii() or not key.isdigit() or str(int(key)) != key:
            new = key not in self._others
            self._others.add(key)
            return new
        place, mark = divmod(int(key), 8)
        if place >= len(self._marks):
            self._marks.extend(bytes(max(place + 1, 2 * len(self._marks)) - len(self._marks)))
        new = not self._marks[place] & 1 << mark
        self._marks[place] |= 1 << mark
        return new


def read_corpus(path: str | Path) -> list[Passage]:
    """All passages of a corpus; says on the standard error what was skipped."""
    reader = CorpusReader(path)
    passages = list(reader)
    reader.report_bad_rows()
    return passages
