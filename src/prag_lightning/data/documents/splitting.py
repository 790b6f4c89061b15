"""Documents cut into passages, of whole sentences, a section at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

import regex
import sentencex

from prag_lightning.data.documents.document import Block, Document
from prag_lightning.data.scripts import CHARACTERS_A_WORD, UNSPACED, count_words
from prag_lightning.errors import InputError
from prag_lightning.records import Passage, Source

OVERLAP = 1
_HASH_LENGTH = 12
_SHORT = 3
"""What has less than one in so many of a passage's words does not stand alone."""
_PIECE = regex.compile(rf"\s*(?:(?P<character>{UNSPACED}\p{{Mark}}*)|(?:(?!{UNSPACED})\S)+)|\s+")
"""Where a sentence can be cut: after a word or, where a script puts no spaces between these, after a character."""
_NEVER_LAST = regex.compile(
    r"(?<![\p{L}\p{N}])(?:Adm|Capt|Col|Cpt|Dr|Ft|Gen|Gov|Hon|Hr|Lt|M|Maj|Messrs|Mlle|Mme|Mr|Mrs|Ms|Mt|Pres|Prof|Rep|Rev|"
    r"Sen|Sgt|St|Supt|approx|bzw|vs|e\.\s?g|i\.\s?e|z\.\s?B|d\.\s?h)\.\s+$"
)
"""Titles and abbreviations after which a sentence goes on."""
_COUNTED = regex.compile(
    r"(?<![\p{L}\p{N}])(?:abb|abs|approx|app|art|bd|ca?|cf|chap|ch|ed|eqs?|figs?|no|nos|nr|pp?|sect?|tab|vols?)\.\s+$",
    regex.IGNORECASE,
)
"""Abbreviations after which it goes on where a number follows."""
_NUMBER = regex.compile(r"[(\[]?\p{N}")


@dataclass(frozen=True)
class _Unit:
    """A sentence, a table's row, or a piece of one that is too long.

    Args:
        text: Of one line.
        after: What parts it from the next: a blank, or nothing in a script without them.
        size: Words, about.
        block: Stands there.
        line: Of the file, if known.
        section: The number of its section.
        shared: Whether the next passage may begin with it too: a whole sentence that is no row.
    """

    text: str
    after: str
    size: int
    block: Block
    line: int | None
    section: int
    shared: bool


def split(document: Document, words: int = 100, overlap: int = OVERLAP, language: str = "en") -> list[Passage]:
    """Passages of about `words` words, in the order of the document.

    Sentences are gathered until the next would lead further from `words`; the last ones of a section join the passage
    before if they have less than a third of that. A passage never holds parts of two sections, unless one has less
    than a third of `words`: it then joins the section beside it, of the same parent if there is one. A sentence of more
    than twice as many words, such as a log without full stops, is cut between words. Before the text stand, as in
    "Handbook > Travel: ...", the document's title and the headings that all of it stands under; they do not count.

    A cut depends on nothing outside of its section, so that an edit leaves the passages of the others as they were.

    Args:
        document: Whatever was read.
        words: Of a passage, about; the paper's passages have 100.
        overlap: So many sentences of a passage stand at the beginning of the next one again, as far as they have no
            more than a third of `words`; none across sections, and no rows of tables.
        language: Of the text, as an ISO 639-1 code: it decides where sentences end.

    Returns:
        The passages; `id` is the document's, a # and the first 12 digits of the SHA-256 of the text, so it stays while
        the text does. Of the same text twice the first is kept.

    Raises:
        InputError: if `words` is below 1 or `overlap` below 0.
    """
    for name, value, least in (("words", words, 1), ("overlap", overlap, 0)):
        if value < least:
            raise InputError(f"{name} is {value}", where=name, hint=f"Give {least} or more")
    sections = [
        list(chain.from_iterable(_units(block, number, words, language) for block in blocks))
        for number, (_, blocks) in enumerate(groupby(document.blocks, key=lambda block: block.headings))
    ]
    passages: dict[str, Passage] = {}
    for group in _groups([section for section in sections if section], words):
        for units in _cut(group, words, overlap):
            path = _common_path(units)
            text = _text(document.title, path, units)
            digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]
            source = Source(document.id, units[0].block.page, units[0].line, " > ".join(path))
            passages.setdefault(text, Passage(text, f"{document.id}#{digest}", document.title, source))
    return list(passages.values())


def _units(block: Block, section: int, words: int, language: str) -> list[_Unit]:
    pieces = [
        (piece, piece == sentence and not block.row)
        for sentence in ([block.text] if block.row else _sentences(block.text, language))
        for piece in _not_too_long(sentence, words)
    ]
    units, line = [], block.line or 0
    for place, (piece, shared) in enumerate(pieces):
        text = piece.strip()
        if text:
            blank = place + 1 == len(pieces) or piece[-1].isspace() or pieces[place + 1][0][:1].isspace()
            begins = line + piece[: piece.index(text)].count("\n") if block.line else None
            units.append(_Unit(" ".join(text.split()), " " * blank, count_words(text), block, begins, section, shared))
        line += piece.count("\n")
    return units


def _sentences(text: str, language: str) -> list[str]:
    """The sentences of a text; joined they are the text. Those that sentencex cuts after a title ("Rev. Bell"), or
    after an abbreviation before a number ("Vol. 3"), are whole again."""
    sentences: list[str] = []
    for sentence in sentencex.segment(language, text):
        before = sentences[-1] if sentences else ""
        if _NEVER_LAST.search(before) or (_NUMBER.match(sentence) and _COUNTED.search(before)):
            sentences[-1] += sentence
        else:
            sentences.append(sentence)
    return sentences


def _not_too_long(sentence: str, words: int) -> Iterator[str]:
    if count_words(sentence) <= 2 * words:
        yield sentence
        return
    gathered, length = "", 0.0
    for piece in _PIECE.finditer(sentence):
        if length >= words:
            yield gathered
            gathered, length = "", 0.0
        gathered += piece[0]
        length += 1 / CHARACTERS_A_WORD if piece["character"] else 1
    yield gathered


def _groups(sections: Sequence[list[_Unit]], words: int) -> list[list[_Unit]]:
    """Sections that are cut together: each alone, but for those that are too short for that."""
    groups: list[list[_Unit]] = []
    open_group = False
    for number, section in enumerate(sections):
        if open_group:
            groups[-1] += section
        else:
            groups.append(list(section))
        group = groups[-1]
        open_group = _is_short(group, words)
        if open_group and len(groups) > 1:
            last = number + 1 == len(sections)
            if last or _kinship(groups[-2], group) > _kinship(group, sections[number + 1]):
                groups[-2:] = [groups[-2] + group]
                open_group = False
    return groups


def _is_short(units: Sequence[_Unit], words: int) -> bool:
    return sum(unit.size for unit in units) * _SHORT < words


def _kinship(before: Sequence[_Unit], after: Sequence[_Unit]) -> int:
    """How many headings the end of one section and the beginning of the next share."""
    return len(_common_path([before[-1], after[0]]))


def _common_path(units: Sequence[_Unit]) -> tuple[str, ...]:
    path = units[0].block.headings
    for unit in units:
        while unit.block.headings[: len(path)] != path:
            path = path[:-1]
    return path


def _cut(units: Sequence[_Unit], words: int, overlap: int) -> Iterator[Sequence[_Unit]]:
    starts, ends = list[int](), [0]
    while ends[-1] < len(units):
        start = end = ends[-1]
        length = sum(unit.size for unit in units[_with_overlap(units, start, words, overlap) : start])
        while end < len(units) and (end == start or 2 * length + units[end].size <= 2 * words):
            length += units[end].size
            end += 1
        starts.append(start)
        ends.append(end)
    del ends[0]
    if len(starts) > 1 and _is_short(units[starts[-1] :], words):
        del starts[-1], ends[-2]
    for start, end in zip(starts, ends, strict=True):
        yield units[_with_overlap(units, start, words, overlap) : end]


def _with_overlap(units: Sequence[_Unit], start: int, words: int, overlap: int) -> int:
    """Where a passage begins whose first sentence of its own is at `start`."""
    begin, length = start, 0
    while begin > 0 and start - begin < overlap:
        unit = units[begin - 1]
        length += unit.size
        if not unit.shared or unit.section != units[start].section or length * _SHORT > words:
            break
        begin -= 1
    return begin


def _text(title: str, path: tuple[str, ...], units: Sequence[_Unit]) -> str:
    headings = path[1:] if path and path[0].casefold() == title.casefold() else path
    above = " > ".join(part for part in (title, *headings) if part)
    text, at = "", path
    for unit in units:
        if unit.block.headings != at:
            at = unit.block.headings
            text += " > ".join(at[len(path) :]) + ": " * (len(at) > len(path))
        text += unit.text + unit.after
    text = text.rstrip()
    return f"{above}: {text}" if above and text != above else text
