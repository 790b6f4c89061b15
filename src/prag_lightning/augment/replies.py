"""What an LLM's reply holds: a rewrite, or QA pairs, in whatever it is wrapped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from prag_lightning.errors import InputError
from prag_lightning.records import QAPair

QA_PAIRS = 3
"""QA pairs a passage, as the prompt asks."""
LONGEST_FIELD = 600
"""Characters that a reply's field may have where decoding is constrained: an LLM that never closes it is of no use."""
_FIELDS = ("question", "answer", "full_answer")
_MOST_LISTS = 8
"""Places in a reply where a list may begin that are tried."""
_LIST_OF_PAIRS = re.compile(r"\[\s*[\[{]")
_TAGS = "think|thinking|thought|thoughts|reasoning|reflection"
_THOUGHTS = re.compile(rf"\A.*?</(?:{_TAGS})>(?!.*<(?:{_TAGS})>)|<({_TAGS})>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
"""Thoughts between tags, after a tag that is never closed, or before one that the prompt has opened."""
_FENCED = re.compile(r"\A```\w*\n(.*?)\n?```\Z", re.DOTALL)
_PREFACE = re.compile(
    r"\A(?:sure|certainly|of course|okay|here|below|the rewritten)\b[^\n]{0,120}:[ \t]*\n+", re.IGNORECASE
)
_QUOTES = {'"': '"', "\u201c": "\u201d"}


def without_thoughts(reply: str) -> str:
    """A reply without what a reasoning model thinks before it answers."""
    return _THOUGHTS.sub("", reply).strip()


def parse_rewrite(reply: str) -> str:
    """The passage in other words, without thoughts, code fences, quotes and words of introduction around it; empty if
    there is none."""
    text = _PREFACE.sub("", without_thoughts(reply)).strip()
    fenced = _FENCED.match(text)
    text = fenced[1].strip() if fenced else text
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and not {text[0], text[-1]} & set(text[1:-1]):
        return text[1:-1].strip()
    return text


def parse_qa_pairs(reply: str) -> list[QAPair]:
    """The first three QA pairs of an LLM's reply, repaired where its JSON is broken.

    Raises:
        InputError: if it holds no list of at least three objects with non-empty `question`, `answer` and `full_answer`.
    """
    text = without_thoughts(reply)
    errors = []
    for start in _starts(text):
        try:
            return _pairs(text[start:])
        except InputError as error:
            errors.append(error)
    raise errors[0] if errors else InputError("no list in the reply")


def holds_qa_pairs(reply: str) -> bool:
    """Whether a reply that is being written has its whole list by now."""
    text = without_thoughts(reply)
    for start in _starts(text):
        try:
            json.JSONDecoder().raw_decode(text, start)
            _pairs(text[start:])
        except (ValueError, RecursionError, InputError):
            continue
        return True
    return False


def _starts(text: str) -> Iterator[int]:
    """Where the list may begin: before objects, else at the first bracket."""
    starts = [match.start() for match in islice(_LIST_OF_PAIRS.finditer(text), _MOST_LISTS)]
    yield from starts or [place for place in [text.find("[")] if place >= 0]


def _pairs(text: str) -> list[QAPair]:
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        import json_repair  # takes a moment, and most replies need no repair

        try:
            value = json_repair.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError("the reply's JSON is beyond repair") from error
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if not isinstance(value, list) or len(value) < QA_PAIRS:
        raise InputError(f"fewer than {QA_PAIRS} QA pairs in the reply")
    return [QAPair.from_json(pair, "the reply") for pair in islice(value, QA_PAIRS)]


def qa_schema() -> dict[str, Any]:
    """JSON schema of a reply, for constrained decoding."""
    field = {"type": "string", "minLength": 1, "maxLength": LONGEST_FIELD}
    pair = {
        "type": "object",
        "properties": dict.fromkeys(_FIELDS, field),
        "required": list(_FIELDS),
        "additionalProperties": False,
    }
    return {"type": "array", "minItems": QA_PAIRS, "maxItems": QA_PAIRS, "items": pair}
