"""DOCX, by python-docx."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import regex

from prag_lightning.data.documents.document import Document, Outline
from prag_lightning.data.documents.libraries import broken, library
from prag_lightning.errors import InputError
from prag_lightning.records import nfc

_NAMESPACE = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_PROPERTIES = f"{_NAMESPACE}tcPr/{_NAMESPACE}"
_WIDEST = 100
"""Columns that a cell may span."""
_HEADING = regex.compile(r"heading (\d)", regex.IGNORECASE)
_BREAKS = frozenset(("br", "cr", "tab"))
_UNREAD = frozenset(("del", "moveFrom", "Fallback", "instrText", "delText"))
"""What was deleted, what moved away, and what stands for newer drawings a second time."""
_LARGEST = 1_000_000_000
"""Bytes that a file may unpack into."""


def read_docx(path: Path, key: str) -> Iterator[Document]:
    """A DOCX file is a document, titled by its paragraph of that kind, or the one heading above all others, or what it
    says of itself, or its name.

    Raises:
        InputError: if it is broken.
    """
    docx = library("docx", path)
    with broken("DOCX file"):
        if not zipfile.is_zipfile(path):
            raise InputError("the DOCX file is broken: it is no DOCX file, or encrypted")
        with zipfile.ZipFile(path) as archive:
            if sum(each.file_size for each in archive.infolist()) > _LARGEST:
                raise InputError("it unpacks into more than 1 GB")
        opened = docx.Document(str(path))
        body = _Body({style.style_id: _kind(style) for style in opened.styles})
        body.read(opened.element.body)
        about = opened.core_properties.title or ""
    outline = body.outline
    yield outline.document(key, body.title, outline.main_heading, about, nfc(path.stem))


class _Body:
    """Gathers the paragraphs and tables of a body, wherever they stand in it."""

    def __init__(self, styles: dict[str, str]) -> None:
        self.outline, self.title = Outline(), ""
        self._styles = styles

    def read(self, element: Any) -> None:
        """What stands in an element."""
        for child in element:
            match _name(child):
                case "p":
                    self._paragraph(child)
                case "tbl":
                    self.outline.table(_grid(child))
                case name if name not in _UNREAD:
                    self.read(child)

    def _paragraph(self, paragraph: Any) -> None:
        text, properties = _text(paragraph), paragraph.find(f"{_NAMESPACE}pPr")
        style = None if properties is None else properties.find(f"{_NAMESPACE}pStyle")
        name = "" if style is None else self._styles.get(style.get(f"{_NAMESPACE}val"), "")
        level = _HEADING.fullmatch(name)
        if level:
            self.outline.heading(int(level[1]), text)
        elif name == "Title" and not self.title:
            self.title = text
        else:
            numbered = properties is not None and properties.find(f"{_NAMESPACE}numPr") is not None
            self.outline.block(" ".join(text.split()), item=numbered or name.startswith("List"))


def _kind(style: Any) -> str:
    """The name of a style or, where it is built on that of a heading, of this one."""
    based = style
    while based is not None:
        if _HEADING.fullmatch(based.name or ""):
            return str(based.name)
        based = getattr(based, "base_style", None)
    return style.name or ""


def _grid(table: Any) -> list[list[str]]:
    """The texts of a table's cells; one that spans several columns or rows stands in each of them."""
    rows: list[list[str]] = []
    for row in _children(table, "tr"):
        cells: list[str] = []
        for cell in _children(row, "tc"):
            merged, span = cell.find(f"{_PROPERTIES}vMerge"), cell.find(f"{_PROPERTIES}gridSpan")
            goes_on = merged is not None and merged.get(f"{_NAMESPACE}val") != "restart"
            above = rows[-1][len(cells)] if goes_on and rows and len(cells) < len(rows[-1]) else ""
            columns = 1 if span is None else min(int(span.get(f"{_NAMESPACE}val", "1")), _WIDEST)
            cells += [above or _text(cell)] * columns
        rows.append(cells)
    return rows


def _children(element: Any, name: str) -> Iterator[Any]:
    """Those of a name, also in what tracks changes and in controls of forms; none of a table within."""
    for child in element:
        if _name(child) == name:
            yield child
        elif _name(child) not in _UNREAD and _name(child) != "tbl":
            yield from _children(child, name)


def _text(element: Any) -> str:
    parts = []
    for child in element:
        name = _name(child)
        if name == "t":
            parts.append(child.text or "")
        elif name in _BREAKS:
            parts.append(" ")
        elif name == "noBreakHyphen":
            parts.append("-")
        elif name not in _UNREAD:
            parts.append(_text(child) + (" " if name in ("p", "tc") else ""))
    return "".join(parts)


def _name(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]
