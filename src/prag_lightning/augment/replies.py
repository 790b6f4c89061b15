"""The QA pairs in an LLM's reply."""

from __future__ import annotations

from itertools import islice
from typing import Any

import json_repair

from prag_lightning.errors import InputError
from prag_lightning.records import QAPair

QA_PAIRS = 3
"""QA pairs a passage, as the prompt asks."""
LONGEST_FIELD = 600
"""Characters that a reply's field may have where decoding is constrained: an LLM that never closes it is of no use."""
_FIELDS = ("question", "answer", "full_answer")


def parse_qa_pairs(reply: str) -> list[QAPair]:
    """The first three QA pairs of an LLM's reply, repaired where its JSON is broken.

    Raises:
        InputError: if it holds no list of at least three objects with non-empty `question`, `answer` and `full_answer`.
    """
    start = reply.find("[")
    if start < 0:
        raise InputError("no list in the reply")
    try:
        value = json_repair.loads(reply[start:])
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
