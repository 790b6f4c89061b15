"""Passages of a corpus, read one by one."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from math import ceil
from pathlib import Path
from typing import BinaryIO

from prag_lightning.data.rows import file_suffix, is_parquet, parquet_rows, tsv_cells
from prag_lightning.errors import InputError, output_errors
from prag_lightning.files import READ_ERRORS, decode, parse_json, read_reason, text_encoding, unzipped, write_text
from prag_lightning.progress import Progress
from prag_lightning.records import Json, Passage, Source, nfc, scalar_text
from prag_lightning.resources import locate, looked_for

SUFFIXES = (".tsv", ".jsonl", ".parquet")
"""Of corpora; `.gz` may follow."""
BAD_ROWS_SHOWN = 20
_ID_NAMES, _TEXT_NAMES = ("id", "_id", "docid"), ("text", "contents")
"""What the columns are called: by DPR, by BEIR, by Pyserini."""
_PASSAGES_BETWEEN_COUNTS = 1000
_LONGEST_ROW = 2**24
"""Bytes of a row: a file without line breaks, or one that unpacks into gigabytes, is not read into memory."""


class CorpusReader:
    """Reads a corpus in a stream; rows that are no passage, or have the id of an earlier one, are counted and named,
    and the others go on.

    Args:
        path: `.tsv` with a header and the columns id, text, title, as DPR publishes, a line a passage; `.jsonl` with
            these keys, or `.parquet` with these columns. `_id` or `docid` may stand for `id`, and `contents` for
            `text`. Where there is a `document` too, it is the passage's source, with `page`, `line` and `heading`.
            Text is UTF-8, or UTF-16 or UTF-32 with a byte order mark, and may be gzipped, whatever its name.
        longest_id: Bytes of an id; a row with a longer one is skipped too. Unset means no limit.

    Attributes:
        bad_rows: The first few rows that were skipped, each with its number and reason.
        bad_row_count: How many were skipped.
    """

    def __init__(self, path: str | Path, longest_id: int | None = None) -> None:
        self.path, self.longest_id = locate(path), longest_id
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
            rows = "row was" if self.bad_row_count == 1 else "rows were"
            print(f"{self.path}: {self.bad_row_count} {rows} skipped, the first: {self.bad_rows[0]}", file=sys.stderr)

    def __iter__(self) -> Iterator[Passage]:
        """Passages in the order of the file.

        Raises:
            InputError: if the file is missing, of another format, cut short, or holds no passage.
        """
        if file_suffix(self.path) not in SUFFIXES:
            raise InputError(
                "a corpus is a .tsv or .jsonl file, gzipped or not, or .parquet", where=str(self.path), hint="Name one"
            )
        self.bad_rows, self.bad_row_count = [], 0
        passages = row = 0
        taken = _Ids()
        try:
            for row, passage in self._passages():
                if self.longest_id is not None and len(passage.id.encode()) > self.longest_id:
                    self._skip(row, f"its id has more than {self.longest_id} bytes")
                    continue
                if not taken.add(passage.id):
                    self._skip(row, f"id {passage.id} is that of an earlier row")
                    continue
                passages += 1
                yield passage
        except (*READ_ERRORS, ValueError) as error:
            raise _unreadable(error, f"{self.path}, after row {row}" if row else looked_for(self.path)) from error
        if not passages:
            bad = f"; {self.bad_rows[0]}" if self.bad_rows else ""
            hint = "Save it as UTF-8" if "not UTF-8" in bad else "Give id, text and title a row"
            raise InputError(f"the corpus holds no passage{bad}", where=str(self.path), hint=hint)

    def _passages(self) -> Iterator[tuple[int, Passage]]:
        if is_parquet(self.path):
            yield from self._of_objects(enumerate(parquet_rows(self.path), 1))
            return
        with self.path.open("rb") as self._file:
            content = unzipped(self._file)
            utf_8 = text_encoding(content.peek(4)[:4]).startswith("utf-8")
            lines = self._lines(content if utf_8 else io.BytesIO(decode(content.read()).encode("utf-8", "replace")))
            if file_suffix(self.path) == ".tsv":
                yield from self._of_table(lines)
            else:
                yield from self._of_objects(self._objects(lines))

    def _lines(self, file: BinaryIO) -> Iterator[tuple[int, str]]:
        """The lines that are not empty, and their numbers from 1; one that is too long, or not UTF-8, is skipped."""
        for number in count(1):
            line = file.readline(_LONGEST_ROW)
            if not line:
                return
            if len(line) == _LONGEST_ROW and not line.endswith(b"\n"):
                self._skip(number, f"longer than {_LONGEST_ROW:,} bytes")
                while line and not line.endswith(b"\n"):
                    line = file.readline(_LONGEST_ROW)
                continue
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                self._skip(number, f"not UTF-8: byte 0x{line[error.start]:02x}")
                continue
            if text.strip():
                yield number, text

    def _of_table(self, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, Passage]]:
        header = [name.strip().lower() for name in tsv_cells(next(lines, (1, ""))[1])]
        id_at, text_at = (_place(header, names) for names in (_ID_NAMES, _TEXT_NAMES))
        if id_at is None or text_at is None:
            bad = f"; {self.bad_rows[0]}" if self.bad_rows else ""
            raise InputError(
                f"the first row is {header[:3]}{bad}",
                where=str(self.path),
                hint="It must name the columns id, text and title",
            )
        title_at = _place(header, ["title"])
        source_at = {name: header.index(name) for name in Source.NAMES if name in header}
        for number, line in lines:
            cells = tsv_cells(line)
            if len(cells) != len(header):
                self._skip(number, f"{len(cells)} columns instead of {len(header)}")
            elif not cells[text_at].strip():
                self._skip(number, "no text")
            else:
                title = "" if title_at is None else cells[title_at]
                source = {name: cells[at] for name, at in source_at.items()}
                yield from self._passage(number, cells[text_at], cells[id_at], title, source)

    def _objects(self, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, Json]]:
        for number, line in lines:
            try:
                yield number, parse_json(line)
            except ValueError as error:
                self._skip(number, f"no JSON: {error}")

    def _of_objects(self, rows: Iterator[tuple[int, Json]]) -> Iterator[tuple[int, Passage]]:
        for number, row in rows:
            text = _first(row, _TEXT_NAMES) if isinstance(row, Mapping) else None
            if not isinstance(text, str) or not text.strip():
                self._skip(number, "no text")
                continue
            key = _first(row, _ID_NAMES)
            key = number if key is None else scalar_text(key)
            if key is None:
                self._skip(number, "its id is no text")
                continue
            yield from self._passage(number, text, str(key), scalar_text(row.get("title")) or "", row)

    def _passage(
        self, number: int, text: str, key: str, title: str, source: Mapping[str, Json]
    ) -> Iterator[tuple[int, Passage]]:
        try:
            place = Source.from_json(source)
        except ValueError as error:
            self._skip(number, str(error))
        else:
            yield number, Passage(nfc(text.strip()), key, nfc(title), place)

    def _skip(self, number: int, reason: str) -> None:
        self.bad_row_count += 1
        if len(self.bad_rows) < BAD_ROWS_SHOWN:
            self.bad_rows.append(f"row {number}: {reason}")


def write_passages(path: Path, passages: Iterable[Passage]) -> None:
    """Write passages as a corpus file, whole or not at all; their sources stand beside them, if any has one.

    Args:
        path: `.tsv` or `.jsonl`, as the name ends.
        passages: In the file's order.

    Raises:
        InputError: if the name ends otherwise, or the file cannot stand there.
        PragError: if it cannot be written for another reason, such as a full disk.
    """
    check_written(path)
    rows = [{"text": each.text, **each.place_json()} for each in passages]
    content = io.StringIO()
    if path.suffix == ".jsonl":
        content.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        sources = Source.NAMES if any("document" in row for row in rows) else ()
        table = csv.DictWriter(
            content, ("id", "text", "title", *sources), restval="", delimiter="\t", lineterminator="\n"
        )
        table.writeheader()
        table.writerows({name: " ".join(str(value).split()) for name, value in row.items()} for row in rows)
    with output_errors("the corpus", path, "Name another file"):
        write_text(path, content.getvalue())


def check_written(path: Path) -> None:
    """See that a corpus can be written under a name.

    Raises:
        InputError: if it ends otherwise than in .tsv or .jsonl.
    """
    if path.suffix not in (".tsv", ".jsonl"):
        raise InputError("a corpus is written as .tsv or .jsonl", where=str(path), hint="Give it a name that ends so")


def _place(header: Sequence[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _first(row: Mapping[str, Json], names: Sequence[str]) -> Json:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _unreadable(error: BaseException, where: str) -> InputError:
    missing = isinstance(error, OSError) and error.strerror
    hint = (
        "Give a file that is there and can be read" if missing else "Give a whole file, unpacked or gzipped, of UTF-8"
    )
    return InputError(f"cannot read the corpus: {read_reason(error)}", where=where, hint=hint)


def corpus_facts(path: Path) -> dict[str, Json]:
    """What an index keeps of the corpus file that it is made of; see `corpus_change`.

    Raises:
        InputError: if the file cannot be read.
    """
    try:
        found = path.stat()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(error, str(path)) from error
    return {
        "corpus": path.name,
        "corpus_bytes": found.st_size,
        "corpus_mtime_ns": found.st_mtime_ns,
        "corpus_sha256": digest,
    }


def corpus_change(facts: Mapping[str, Json], path: Path) -> str | None:
    """How a corpus file differs from the one of which `facts` were kept; `None` if it does not.

    A file of the same size and time counts as the same; of another time, its hash decides, since copies have one.
    """
    found, name = path.stat(), "corpus_bytes"
    if facts.get(name) == found.st_size:
        if facts.get("corpus_mtime_ns") == found.st_mtime_ns:
            return None
        name = "corpus_sha256" if "corpus_sha256" in facts else "corpus"
    now = found.st_size if name == "corpus_bytes" else corpus_facts(path)[name]
    return None if facts.get(name) == now else f"{name} {facts.get(name)!r} where {path} has {now!r}"


def file_stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of a file, which change when it is edited; `None` if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


class _Ids:
    """Ids seen so far: a bit each for numbers of up to nine digits, as DPR has them, and a set for others."""

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
