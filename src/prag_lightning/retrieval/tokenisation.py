"""How text becomes words to search by: one setting for corpus and queries."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import Stemmer

from prag_lightning.errors import InputError

_WORD = re.compile(r"\w+")
_STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with".split()
)
"""The words that Lucene's English analyzer drops."""


@dataclass(frozen=True)
class Tokenisation:
    """Splits text into words.

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
        """The words of a text, in lower case, in order."""
        words = _WORD.findall(text.lower())
        if self.stop_words:
            words = [word for word in words if word not in _STOP_WORDS]
        return words if self.stemmer is None else list(_stemmer(self.stemmer).stemWords(words))


@lru_cache
def _stemmer(language: str) -> Stemmer.Stemmer:
    return Stemmer.Stemmer(language)
