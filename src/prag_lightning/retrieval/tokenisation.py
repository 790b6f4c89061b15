"""How text becomes words to search by: one setting for corpus and queries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from unicodedata import normalize

import regex
import Stemmer

from prag_lightning.data.scripts import UNSPACED
from prag_lightning.errors import InputError

_WORD = regex.compile(r"\w+")
_HIGH = re.compile("[\u0e00-\u1fff\u2e80-\U0010ffff]")
"""Finds quickly that a text may hold a script without spaces: all of these have their characters here."""
_RUN = regex.compile(rf"((?:{UNSPACED}\p{{Mark}}*)+)")
_CHARACTER = regex.compile(r"\X")
_STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with".split()
)
"""The words that Lucene's English analyzer drops."""


@dataclass(frozen=True)
class Tokenisation:
    """Splits text into words.

    Text is compared after NFKC and case folding, so that an é of two characters is that of one. Where a script puts no
    spaces between words, each character and each pair of neighbours is a word.

    Args:
        stop_words: Drop the commonest English words.
        stemmer: Language of the Snowball stemmer, such as english; `None` keeps words whole.

    Raises:
        InputError: for a language without a stemmer, at once rather than at the first search.
    """

    stop_words: bool = True
    stemmer: str | None = "english"

    def __post_init__(self) -> None:
        if self.stemmer is not None and self.stemmer not in Stemmer.algorithms():
            known = ", ".join(Stemmer.algorithms())
            raise InputError(
                f"there is no stemmer {self.stemmer!r}", where="tokenisation.stemmer", hint=f"Give one of {known}"
            )

    def __call__(self, text: str) -> list[str]:
        """The words of a text, in order.

        >>> Tokenisation()("The Harbours of 東京")
        ['harbour', '東', '京', '東京']
        """
        text = normalize("NFKC", text).casefold()
        words = _WORD.findall(text)
        if _HIGH.search(text):
            words = [part for word in words for part in _parts(word)]
        if self.stop_words:
            words = [word for word in words if word not in _STOP_WORDS]
        return words if self.stemmer is None else list(_stemmer(self.stemmer).stemWords(words))


def _parts(word: str) -> Iterator[str]:
    """A word, or what it consists of where it is of a script without spaces."""
    for place, part in enumerate(_RUN.split(word)):
        if place % 2:
            characters = _CHARACTER.findall(part)
            yield from characters
            yield from (first + second for first, second in pairwise(characters))
        elif part:
            yield part


@lru_cache
def _stemmer(language: str) -> Stemmer.Stemmer:
    return Stemmer.Stemmer(language)
