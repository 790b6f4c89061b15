"""Where a prompt ends and an answer begins, in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

from prag_lightning.data.chat_text import text_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AnswerBoundary = Literal["token", "published"]
"""`token`: a prompt ends where the answer's first token begins, so that it always is the beginning of what was trained.
`published`: it ends where the answer's first character begins. Tokenizers that put blanks at the front of tokens then
end it in a lone blank, which training never has before an answer."""
ANSWER_BOUNDARIES: tuple[str, ...] = get_args(AnswerBoundary)

_ANSWERS = (
    *("Paris", "Anna", "London", "Smith", "the", "a", "in", "new", "I", "x", "Yes", "no", "1936", "7", "Éire", "über"),
    *("Москва", "Αθήνα", "東京", "서울", "دمشق", "ירושלים", "दिल्ली", "กรุงเทพ"),
)
"""Beginnings of answers. Those in quotes or brackets are not among them: after some prefixes these become one token
with what stands before, which would move the boundary into the prefix for all answers."""


@dataclass(frozen=True)
class Boundary:
    """A prefix that answers follow, cut where their first tokens begin.

    Args:
        ids: The tokens of the prefix that no answer changes.
        rest: The text of the prefix that becomes part of the answer's first token, most often a blank.
    """

    ids: tuple[int, ...]
    rest: str


@lru_cache(maxsize=64)
def find_boundary(tokenizer: PreTrainedTokenizerBase, prefix: str) -> Boundary:
    """The longest beginning of `prefix` that is tokenised alike alone and before every answer.

    >>> from transformers import AutoTokenizer
    >>> blanks_end_tokens = AutoTokenizer.from_pretrained("checkpoints/prag-tiny")
    >>> find_boundary(blanks_end_tokens, "The answer is ").rest
    ''
    """
    shared = text_ids(tokenizer, prefix + _ANSWERS[0])
    for answer in _ANSWERS[1:]:
        shared = shared[: common_prefix(shared, text_ids(tokenizer, prefix + answer))]
    by_end = {end: text_ids(tokenizer, prefix[:end]) for end in range(len(prefix), -1, -1)}
    for count in range(len(shared), 0, -1):
        for end, ids in by_end.items():
            if ids == shared[:count]:
                return Boundary(tuple(ids), prefix[end:])
    return Boundary((), prefix)


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
