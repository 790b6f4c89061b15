"""QA pairs as lines, one a reply: what a small model can write, and what of it is kept."""

from __future__ import annotations

import re
from collections.abc import Sequence

from prag_lightning.data.prompts import end_with_question_mark
from prag_lightning.errors import InputError
from prag_lightning.metrics import answer_presence, normalize_answer
from prag_lightning.records import QAPair, whole_characters

BEGUN = "Question:"
"""How a local LLM's reply is begun for it."""
MAX_NEW_TOKENS = 80
_FEWEST_WORDS, _LONGEST_ANSWER = 4, 12
"""Words of a sentence or question at least, and of an answer at most."""
_SENTENCE_END = re.compile(
    r"(?<!\b[A-Z]\.)(?<!\b(?:Dr|Mr|Ms|St|Mt|vs|No)\.)(?<!\bMrs\.)(?<=[.!?])[\"\u201d')\]]*\s+(?=[\"\u201c'(\[]?[A-Z0-9])"
)
_PAIR = re.compile(r"(?:\A|\n)\s*(?:question|q)\s*:\s*([^\n]+)\n+\s*(?:answer|a)\s*:\s*([^\n]+)", re.IGNORECASE)
_ENDED = re.compile(r"\n\s*(?:answer|a)\s*:\s*\S[^\n]*\n", re.IGNORECASE)


def sentences(passage: str) -> list[str]:
    """The sentences to ask about, the passage itself if it has none."""
    found = [text.strip() for text in _SENTENCE_END.split(passage)]
    return [text for text in found if len(text.split()) >= _FEWEST_WORDS] or [passage]


def holds_pair(reply: str) -> bool:
    """Whether a reply that is being written has its answer, and the line's end behind it."""
    return _ENDED.search(reply) is not None


def parse_pair(reply: str, passage: str, sentence: str, known: Sequence[QAPair]) -> QAPair:
    """The QA pair of a reply, with the sentence that it was asked about as the full answer.

    Raises:
        InputError: saying why it is not kept: it has no such lines; its answer does not stand in the passage, is long,
            or stands in the question; its question is known.
    """
    found = _PAIR.search(reply)
    if found is None:
        raise InputError("no lines 'Question:' and 'Answer:' in the reply")
    question = end_with_question_mark(whole_characters(found[1]))
    answer = whole_characters(found[2]).strip().strip('"\u201c\u201d').rstrip(". ")
    normal = normalize_answer(answer)
    if not normal or not answer_presence(passage, answer):
        raise InputError("the answer does not stand in the passage")
    if len(normal.split()) > _LONGEST_ANSWER:
        raise InputError(f"the answer has more than {_LONGEST_ANSWER} words")
    if len(question.split()) < _FEWEST_WORDS or answer_presence(question, answer):
        raise InputError("the question gives its answer away, or is none")
    if normalize_answer(question) in {normalize_answer(pair.question) for pair in known}:
        raise InputError("the question was asked before")
    return QAPair(question, answer, sentence)
