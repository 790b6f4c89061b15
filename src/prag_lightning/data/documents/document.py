"""What a reader makes of a file: documents of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from prag_lightning.data.documents.typesetting import LineEnds, clean, paragraphs
from prag_lightning.data.scripts import count_words
from prag_lightning.records import nfc

_LONGEST_HEADING = 40
"""Words; what is longer is text that was set as a heading."""
_ENDS = (".", "!", "?", "…", "。", "！", "？", ":", ";")


@dataclass(frozen=True)
class Block:
    """A paragraph, an item of a list, a row of a table.

    Args:
        text: Without marks; a line break is one of the file where the block has a `line`.
        headings: Those that it stands under, from the outermost.
        page: From 1, where the document has pages.
        line: The line of the file that it begins in, from 1, where the document has lines.
        row: Whether it is a table's row, which is kept whole and makes sense by itself.
    """

    text: str
    headings: tuple[str, ...] = ()
    page: int | None = None
    line: int | None = None
    row: bool = False


@dataclass(frozen=True)
class Document:
    """A document.

    Args:
        id: What tells it from the others: its path within the folder that was read, with / on every system; of a row
            of a .jsonl file, that and the row's id, or else its line, after a #.
        title: Of one line.
        blocks: Its text, in order; none is empty.
    """

    id: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Fault:
    """A part of a file that holds no document.

    Args:
        part: What it is of the file, as in "line 3".
        reason: What is wrong with it.
        skipped: Whether it is passed over knowingly, rather than not understood.
    """

    part: str
    reason: str
    skipped: bool = False


@dataclass
class Outline:
    """Gathers the blocks of a document under its headings."""

    blocks: list[Block] = field(default_factory=list)
    headings: list[tuple[int, str]] = field(default_factory=list)
    """Every heading so far, with its level."""
    _open: list[tuple[int, str]] = field(default_factory=list)
    _bare: Block | None = None
    """The last heading, while there is no text below it."""

    def heading(self, level: int, text: str, page: int | None = None, line: int | None = None) -> None:
        """A heading begins; level 1 is the outermost."""
        text = " ".join(clean(text).split()).rstrip(":").rstrip()
        if count_words(text) > _LONGEST_HEADING:
            self.block(text, page, line)
        elif text:
            if self._bare is not None and level <= self._open[-1][0]:
                self.blocks.append(self._bare)
            while self._open and self._open[-1][0] >= level:
                self._open.pop()
            self._bare = Block(_ended(text), self._path(), page, line)
            self._open.append((level, text))
            self.headings.append((level, text))

    def block(
        self, text: str, page: int | None = None, line: int | None = None, *, row: bool = False, item: bool = False
    ) -> None:
        """Text stands below the last heading; an item of a list gets the full stop that it lacks."""
        text = clean(text).strip()
        if text:
            self._bare = None
            self.blocks.append(Block(_ended(text) if item else text, self._path(), page, line, row))

    def table(self, rows: Sequence[Sequence[str]], lines: Sequence[int | None] = (), page: int | None = None) -> None:
        """A table stands there, whose first row names its columns; an empty name is none."""
        rows = [[" ".join(cell.split()) for cell in row] for row in rows]
        if len(rows) == 1:
            rows = [[], *rows]
            lines = [None, *lines]
        for number, row in enumerate(rows[1:], 1):
            self.block(row_text(rows[0], row), page, lines[number] if lines else None, row=True)

    def document(self, key: str, *titles: str) -> Document:
        """The document; its title is the first of `titles` that is not empty."""
        if self._bare is not None:
            self.blocks.append(self._bare)
            self._bare = None
        title = next((clean(title) for title in titles if title.strip()), "")
        return Document(key, " ".join(title.split()), tuple(self.blocks))

    @property
    def main_heading(self) -> str:
        """The heading that stands above all others; empty if none does."""
        outermost = [text for level, text in self.headings if level == 1]
        return outermost[0] if len(outermost) == 1 and self.headings[0][0] == 1 else ""

    def _path(self) -> tuple[str, ...]:
        return tuple(text for _, text in self._open)


def _ended(text: str) -> str:
    return f"{text}." if text[-1].isalnum() else text


def row_text(names: Sequence[str], cells: Sequence[str]) -> str:
    """A table's row with the names of its columns.

    >>> row_text(["Name", "Born"], ["Ada", "1815"])
    'Name: Ada; Born: 1815.'
    """
    padded = [*names, *[""] * (len(cells) - len(names))]
    parts = [f"{name}: {cell}" if name else cell for name, cell in zip(padded, cells, strict=False) if cell]
    text = "; ".join(parts)
    return text if not text or text.endswith(_ENDS) else f"{text}."


def document_of_text(id: str, text: str, title: str = "", *, line: int | None = None) -> Document:
    """A document of plain text, whose paragraphs are parted by empty lines.

    Args:
        id: See `Document`.
        text: Hyphenation at the ends of its lines is undone.
        title: May be empty.
        line: Where all of it stands in a file; unset means that the text is the file.
    """
    text = clean(text)
    mended, outline = LineEnds(text), Outline()
    for number, paragraph in paragraphs(text):
        paragraph = mended(paragraph)
        outline.block(paragraph if line is None else " ".join(paragraph.split()), line=line or number)
    return outline.document(nfc(id), title)
