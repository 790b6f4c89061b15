"""PDFs, by pypdf."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import regex

from prag_lightning.data.documents.document import Document, Fault, Outline
from prag_lightning.data.documents.libraries import EXTRA, broken, library
from prag_lightning.data.documents.typesetting import LineEnds, clean
from prag_lightning.errors import InputError
from prag_lightning.records import nfc

_EDGE = 2
"""Lines at the top and at the bottom of a page that may be its head and foot."""
_REPEATED = 3
"""Pages that a head or foot stands on at least, of those near each other."""
_NEAR = 4
_NUMBER = regex.compile(r"\p{Nd}+")
_PAGE_NUMBER = regex.compile(
    r"[-–—\s]*(?:(?:page|seite|p\.|s\.)\s*)?(\p{Nd}+)(?:\s*(?:/|of|von)\s*\p{Nd}+)?[-–—\s]*", regex.IGNORECASE
)
_ENDED = regex.compile(r"[.!?…:;。！？]['\"”’»)\]]*$")
_NO_TITLE = regex.compile(r"untitled|microsoft word|\.(?:docx?|pdf|tex|indd|odt|dvi)$", regex.IGNORECASE)
_FULL = 0.8
"""Of the longest line's length: a shorter one that ends a sentence ends a paragraph."""


def read_pdf(path: Path, key: str) -> Iterator[Document | Fault]:
    """A PDF is a document, titled by what it says of itself, or its name. Its headings are its bookmarks.

    Raises:
        InputError: if it is encrypted or broken, or none of its pages has text.
    """
    pypdf = library("pypdf", path)
    with broken("PDF"), _silenced():
        reader = pypdf.PdfReader(path)
        if reader.is_encrypted and not _opens(pypdf, reader):
            raise InputError("it is encrypted", hint="Save it without a password")
        pages = [clean(page.extract_text()).split("\n") for page in reader.pages]
        title = str((reader.metadata or {}).get("/Title") or "").strip()
        bookmarks = _bookmarks(reader)
        pictures = [
            number for number, lines in enumerate(pages) if not "".join(lines).strip() and _has_image(reader, number)
        ]
    if pictures and not any(line.strip() for lines in pages for line in lines):
        raise InputError("its pages are pictures, without text", hint="Run OCR on it first")
    for number in pictures:
        yield Fault(f"page {number + 1}", "a page that is a picture", skipped=True)
    yield _document(key, "" if _NO_TITLE.search(title) else title, nfc(path.stem), pages, bookmarks)


def _opens(pypdf: Any, reader: Any) -> bool:
    """Whether an encrypted PDF opens without a password, as one does that only forbids printing or copying."""
    try:
        return bool(reader.decrypt(""))
    except pypdf.errors.DependencyError as error:
        raise InputError("it is encrypted, which pypdf needs cryptography for", hint=EXTRA) from error


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep pypdf's remarks on small faults, which it mends, from the standard error."""
    logger = logging.getLogger("pypdf")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _has_image(reader: Any, number: int) -> bool:
    resources = reader.pages[number].get("/Resources")
    objects = resources.get_object().get("/XObject") if resources else None
    return objects is not None and any(
        each.get_object().get("/Subtype") in ("/Image", "/Form") for each in objects.get_object().values()
    )


def _bookmarks(reader: Any) -> dict[int, list[tuple[int, str]]]:
    """Level and text of each bookmark by the page, from 0, that it leads to."""
    found: dict[int, list[tuple[int, str]]] = defaultdict(list)

    def walk(entries: Sequence[Any], level: int) -> None:
        for entry in entries:
            if isinstance(entry, list):
                walk(entry, level + 1)
            elif (page := reader.get_destination_page_number(entry)) is not None:
                found[page].append((level, str(entry.title)))

    walk(reader.outline, 1)
    return found


def _document(
    key: str, title: str, name: str, pages: Sequence[Sequence[str]], bookmarks: dict[int, list[tuple[int, str]]]
) -> Document:
    kept = _without_heads_and_feet([[" ".join(line.split()) for line in lines] for lines in pages])
    outline, mended = Outline(), LineEnds("\n".join(line for lines in kept for line in lines))
    width = sorted(len(line) for lines in kept for line in lines if line)[-1:] or [0]
    text, begun = list[str](), 1

    def end() -> None:
        if text:
            outline.block(" ".join(mended("\n".join(text)).split()), page=begun)
            text.clear()

    for number, lines in enumerate(kept):
        headings = bookmarks.get(number, [])
        standing = [_plain(heading) for _, heading in headings]
        for heading in headings:  # whose line is not found, above all the page's text
            if _plain(heading[1]) not in {_plain(line) for line in lines}:
                end()
                outline.heading(*heading, page=number + 1)
        for line in lines:
            if line and _plain(line) in standing:
                end()
                outline.heading(headings[standing.index(_plain(line))][0], line, page=number + 1)
                standing[standing.index(_plain(line))] = ""
                continue
            if not line:
                if text and _ENDED.search(text[-1]):
                    end()
                continue
            if not text:
                begun = number + 1
            text.append(line)
            if _ENDED.search(line) and len(line) < _FULL * width[0]:
                end()
    end()
    return outline.document(key, title, outline.main_heading, name)


def _plain(text: str) -> str:
    return " ".join(clean(text).casefold().split())


def _without_heads_and_feet(pages: Sequence[list[str]]) -> list[list[str]]:
    """The pages without page numbers, and without the lines at their edges that stand on several near each other, the
    same but for a number that counts with the pages."""
    edges = [_edge_lines(lines) for lines in pages]
    keys = [
        [{(edge_number, key) for key in _keys(lines[at], number)} for edge_number, at in edge]
        for number, (lines, edge) in enumerate(zip(pages, edges, strict=True))
    ]
    on_page = [set().union(*of_page) for of_page in keys]
    kept = []
    for number, (lines, edge) in enumerate(zip(pages, edges, strict=True)):
        near = Counter(key for each in on_page[max(0, number - _NEAR) : number + _NEAR + 1] for key in each)
        gone = set()
        for (_, at), of_line in zip(edge, keys[number], strict=True):
            counted = _PAGE_NUMBER.fullmatch(lines[at])
            if any(near[key] >= _REPEATED for key in of_line) or (counted and int(counted[1]) == number + 1):
                gone.add(at)
        kept.append([line for at, line in enumerate(lines) if at not in gone])
    return kept


def _edge_lines(lines: Sequence[str]) -> list[tuple[int, int]]:
    """The lines at a page's edges: their number from the top, or from the bottom below 0, and their place."""
    places = [at for at, line in enumerate(lines) if line]
    top = places[: min(_EDGE, len(places) // 2)]
    bottom = places[len(top) :][-_EDGE:]
    return [*enumerate(top), *((-number, at) for number, at in enumerate(reversed(bottom), 1))]


def _keys(line: str, page: int) -> set[str]:
    """What the line has in common with its like on other pages: all of it, or all but its first or its last number,
    which counts with the pages."""
    numbers = list(_NUMBER.finditer(line))
    counted = {
        f"{line[: found.start()]}\0{int(found[0]) - page}\0{line[found.end() :]}"
        for found in (*numbers[:1], *numbers[-1:])
    }
    return {line, *counted}
