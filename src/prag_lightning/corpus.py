"""Passages of a corpus, read one by one."""

from __future__ import annotations

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from prag_lightning.errors import InputError
from prag_lightning.records import Passage

BAD_ROWS_SHOWN = 20
csv.field_size_limit(2**24)


class CorpusReader:
    """Reads a corpus in a stream; rows that are no passage are counted and named, the others go on.

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
        try:
            with self._open() as file:
                for row, passage in self._tsv(file) if suffix == ".tsv" else self._jsonl(file):
                    passages += 1
                    yield passage
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise InputError(
                f"cannot read the corpus: {reason}", where=f"{self.path}, after row {row}", mend="Give a whole file"
            ) from error
        if not passages:
            bad = f"; {self.bad_rows[0]}" if self.bad_rows else ""
            raise InputError(
                f"the corpus holds no passage{bad}", where=str(self.path), mend="Give id, text and title a row"
            )

    def _open(self) -> IO[str]:
        if self.path.suffix == ".gz":
            return gzip.open(self.path, "rt", encoding="utf-8-sig")
        return self.path.open(encoding="utf-8-sig")

    def _tsv(self, file: IO[str]) -> Iterator[tuple[int, Passage]]:
        header = [name.strip().lower() for name in self._cells(1, file.readline()) or []]
        if header[:2] != ["id", "text"]:
            raise InputError(
                f"the first row is {header[:3]}",
                where=str(self.path),
                mend="It must name the columns id, text and title",
            )
        for number, line in enumerate(file, 2):
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

    def _cells(self, number: int, line: str) -> list[str] | None:
        """The cells of one line, alone: a quote that is never closed costs its own row and none after it."""
        try:
            return next(csv.reader([line.rstrip("\n")], delimiter="\t"), [])
        except csv.Error as error:
            self._skip(number, str(error))
            return None

    def _jsonl(self, file: IO[str]) -> Iterator[tuple[int, Passage]]:
        for number, line in enumerate(file, 1):
            try:
                value = json.loads(line)
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


def read_corpus(path: str | Path) -> list[Passage]:
    """All passages of a corpus; says on the standard error what was skipped."""
    reader = CorpusReader(path)
    passages = list(reader)
    if reader.bad_row_count:
        print(f"{path}: {reader.bad_row_count} rows skipped, the first: {reader.bad_rows[0]}", file=sys.stderr)
    return passages
