"""Scripts that put no spaces between words, such as Chinese, Japanese and Thai."""

from __future__ import annotations

import regex

UNSPACED = (
    r"[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Bopomofo}\p{Script=Yi}"
    r"\p{Line_Break=Complex_Context}\u30fc]"
)
"""Matches a character of these. Line_Break=Complex_Context is Thai, Lao, Khmer, Burmese and their like; Korean, which
has spaces, is here for the endings that its words take."""
_CHARACTER = regex.compile(UNSPACED)
CHARACTERS_A_WORD = 2
"""Of a script without spaces, about."""


def count_words(text: str) -> int:
    """How many words a text has, about: those between spaces, or two characters each where there are none."""
    return max(len(text.split()), len(_CHARACTER.findall(text)) // CHARACTERS_A_WORD)
