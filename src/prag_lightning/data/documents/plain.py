"""Text, JSON lines and tables of comma-separated values."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from prag_lightning.data.documents.document import Document, Fault, Outline, document_of_text
from prag_lightning.errors import InputError
from prag_lightning.files import parse_json, read_text
from prag_lightning.records import Json, nfc, scalar_text

_HINT = "Give a file that can be read"
_DELIMITERS = ",;\t|"
_ID_NAMES = ("id", "_id", "docid")


def read_plain(path: Path, key: str) -> Iterator[Document]:
    """A text file is a document, titled by its name."""
    yield document_of_text(key, read_text(path, "document", _HINT), nfc(path.stem))


def read_json_lines(path: Path, key: str) -> Iterator[Document | Fault]:
    """A document a line, with `text` or `contents`, and as far as it has them `title` and `id`."""
    for number, line in enumerate(read_text(path, "document", _HINT).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError:
            yield Fault(f"line {number}", "no JSON")
            continue
        content = row.get("text", row.get("contents")) if isinstance(row, dict) else None
        if not isinstance(content, str):
            yield Fault(f"line {number}", "no 'text'")
        elif not content.strip():
            yield Fault(f"line {number}", "without text", skipped=True)
        else:
            title = scalar_text(row.get("title")) or nfc(path.stem)
            yield document_of_text(f"{key}#{_row_id(row) or number}", content, title, line=number)


def _row_id(row: dict[str, Json]) -> str | None:
    return next((found for name in _ID_NAMES if (found := scalar_text(row.get(name)))), None)


def read_table(path: Path, key: str) -> Iterator[Document]:
    """A table is a document, a block a row; its first row names the columns.

    Raises:
        InputError: if it cannot be read.
    """
    text = read_text(path, "document", _HINT)
    first = text.lstrip().partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=first.count), strict=True)
    rows: list[list[str]] = []
    lines: list[int | None] = []
    begins = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append(row)
                lines.append(begins)
            begins = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"the table is broken: {error} in line {begins}", where=str(path)) from error
    outline = Outline()
    outline.table(rows, lines)
    yield outline.document(key, path.stem)
