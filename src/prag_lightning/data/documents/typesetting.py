"""What typesetting does to words, undone: ligatures, and hyphens at the ends of lines."""

from __future__ import annotations

from collections.abc import Iterator

import regex

from prag_lightning.records import nfc, whole_characters

_LIGATURES = str.maketrans(
    {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\ufb05": "st", "\ufb06": "st"}
)
_SOFT_HYPHEN = regex.compile("\u00ad(?:[^\\S\n]*\n[^\\S\n]*(\\S*))?")
_LINE_END = regex.compile(
    r"([\p{L}\p{N}\p{M}'’-]*[\p{L}\p{N}\p{M}])([-‐])[^\S\n]*\n[^\S\n]*([\p{L}\p{N}][\p{L}\p{N}\p{M}'’-]*)(\S*)"
)
_HYPHENATED = regex.compile(r"\p{L}[\p{L}\p{M}'’]*(?:[-‐]\p{L}[\p{L}\p{M}'’]*)+")
_SUSPENDED = frozenset("and or nor to und oder bis sowie bzw et ou y o e en of och og eller".split())
"""What follows a hyphen that stands for the rest of a word, as in "pre- and post-war"."""


def clean(text: str) -> str:
    """The text of composed characters, with the letters of ligatures and without soft hyphens and half characters."""
    text = nfc(whole_characters(text)).translate(_LIGATURES).replace("\r\n", "\n")
    if "\u00ad" in text:
        text = str(_SOFT_HYPHEN.sub(lambda found: f"{found[1]}\n" if "\n" in found[0] else "", text))
    return text.replace("\r", "\n").replace("\0", " ")


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """The paragraphs of a text, which empty lines part, each with the number of its first line, from 1."""
    start, gathered = 1, list[str]()
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            if not gathered:
                start = number
            gathered.append(line)
        elif gathered:
            yield start, "\n".join(gathered)
            gathered = []
    if gathered:
        yield start, "\n".join(gathered)


class LineEnds:
    """Joins words that are parted at the end of a line.

    A hyphen there goes where a lower-case letter follows, unless the document has the word with its hyphen elsewhere,
    or the word has another one: "hand-" and "book" become "handbook", while "well-" and "known" stay "well-known" if
    that stands in a line somewhere.

    Args:
        document: The whole text, which tells the words that have hyphens.
    """

    def __init__(self, document: str) -> None:
        self._hyphenated = {word.casefold().replace("‐", "-") for word in _HYPHENATED.findall(document)}

    def __call__(self, text: str) -> str:
        """A part of the document; the line then ends after the word."""
        return str(_LINE_END.sub(self._join, text))

    def _join(self, found: regex.Match[str]) -> str:
        start, hyphen, end, after = found.groups()
        if end.casefold() in _SUSPENDED:
            return str(found[0])
        kept = not end[0].islower() or "-" in start or f"{start}-{end}".casefold() in self._hyphenated
        return f"{start}{hyphen if kept else ''}{end}{after}\n"
