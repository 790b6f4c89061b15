"""Pages of HTML, by lxml."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import regex

from prag_lightning.data.documents.document import Document, Outline, row_text
from prag_lightning.data.documents.libraries import broken, library
from prag_lightning.errors import InputError
from prag_lightning.files import decode
from prag_lightning.records import nfc

_UNREAD = frozenset(
    "audio button canvas datalist embed head iframe input map nav noscript object script select style svg template "
    "textarea video".split()
)
_INLINE = frozenset(
    "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark q rp rt ruby s samp small span "
    "strike strong sub sup time tt u var wbr".split()
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_CHARSET = regex.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w.:-]+)", regex.IGNORECASE)
_WIDEST = 100
"""Columns or rows that a cell may span."""
_START = 4096
"""Bytes in which a page names its encoding."""


def read_html(path: Path, key: str) -> Iterator[Document]:
    """A page is a document, titled by its title, or the one heading above all others, or its name. Of a page with one
    `main` element, that is read; navigation, forms, scripts and what is hidden never are.

    Raises:
        InputError: if it cannot be read.
    """
    parsing = library("lxml.html", path)
    text = _decode(path.read_bytes())
    with broken("page"):
        parser = parsing.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
        root = parsing.document_fromstring(text.encode() or b"<html></html>", parser=parser)
        title = " ".join(each.text_content() for each in root.xpath("/html/head/title")[:1])
        mains = root.xpath("//main[not(@hidden)] | //*[@role='main' and not(self::main) and not(@hidden)]")
        page = _Page()
        page.read(mains[0] if len(mains) == 1 else root)
        page.flush()
    yield page.outline.document(key, title, page.outline.main_heading, nfc(path.stem))


def _decode(content: bytes) -> str:
    """A page's text: UTF-8 or its like, or in the encoding that it names itself.

    Raises:
        InputError: if it is neither.
    """
    try:
        return decode(content)
    except ValueError as error:
        named = _CHARSET.search(content[:_START])
        with suppress(LookupError, ValueError):
            return content.decode(named[1].decode() if named else "ascii")
        raise InputError(f"cannot read the page: {error}", hint="Save it as UTF-8") from error


class _Page:
    """Gathers the text of elements, which ends where one begins or ends that stands in lines of its own."""

    def __init__(self) -> None:
        self.outline = Outline()
        self._text, self._line, self._items = "", 0, 0

    def read(self, element: Any) -> None:
        """An element, and what stands in it."""
        name = element.tag
        if not isinstance(name, str) or name in _UNREAD or element.get("hidden") is not None:
            return
        if name in _HEADINGS:
            self.flush()
            self.outline.heading(_HEADINGS[name], _inner_text(element), line=element.sourceline)
        elif name == "table":
            self.flush()
            self._table(element)
        elif name == "img":
            self._add(element.get("alt") or "", element)
        elif name == "br":
            self._add(" ", element)
        elif name in _INLINE:
            self.inside(element)
        else:
            self.flush()
            self._items += name == "li"
            self.inside(element)
            self.flush()
            self._items -= name == "li"

    def flush(self) -> None:
        """The text so far is a block."""
        self.outline.block(" ".join(self._text.split()), line=self._line, item=self._items > 0)
        self._text = ""

    def inside(self, element: Any) -> None:
        """What stands in an element."""
        self._add(element.text or "", element)
        for child in element:
            self.read(child)
            self._add(child.tail or "", child)

    def _add(self, text: str, element: Any) -> None:
        if not self._text.strip():
            self._line = element.sourceline
        self._text += text

    def _table(self, table: Any) -> None:
        for caption in table.iterchildren("caption"):
            self.outline.block(" ".join(_inner_text(caption).split()), line=caption.sourceline)
        rows = [row for row in table.iter("tr") if next(row.iterancestors("table")) is table]
        cells = _grid(rows)
        if cells and cells[0] and (all(cell.tag == "th" for cell in cells[0]) or rows[0].getparent().tag == "thead"):
            self.outline.table([[_inner_text(cell) for cell in row] for row in cells], [row.sourceline for row in rows])
            return
        for row, element in zip(cells, rows, strict=True):
            texts = [" ".join(_inner_text(cell).split()) for cell in row]
            named = len(row) > 1 and row[0].tag == "th"
            names, texts = ([texts[0]], texts[1:]) if named else ([], texts)
            self.outline.block(row_text(names, texts), line=element.sourceline, row=True)


def _grid(rows: list[Any]) -> list[list[Any]]:
    """The cells of each row; one that spans several columns or rows stands in each of them."""
    grid: list[list[Any]] = []
    below: dict[int, tuple[Any, int]] = {}
    for row in rows:
        cells: list[Any] = []
        for cell in row.iterchildren("td", "th"):
            while len(cells) in below:
                cells.append(_from_above(below, len(cells)))
            for _ in range(_span(cell, "colspan")):
                if _span(cell, "rowspan") > 1:
                    below[len(cells)] = cell, _span(cell, "rowspan") - 1
                cells.append(cell)
        while len(cells) in below:
            cells.append(_from_above(below, len(cells)))
        grid.append(cells)
    return grid


def _from_above(below: dict[int, tuple[Any, int]], column: int) -> Any:
    cell, rows = below.pop(column)
    if rows > 1:
        below[column] = cell, rows - 1
    return cell


def _span(cell: Any, name: str) -> int:
    given = cell.get(name) or ""
    return max(1, min(int(given), _WIDEST)) if given.isascii() and given.isdigit() else 1


def _inner_text(element: Any) -> str:
    page = _Page()
    page.inside(element)
    page.flush()
    return " ".join(block.text for block in page.outline.blocks)
