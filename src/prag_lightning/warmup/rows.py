"""The rows that a warm-up learns from, and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prag_lightning.errors import InputError
from prag_lightning.files import read_json, write_json
from prag_lightning.records import Json, Question, answers_from_json

_MEND = "Write it again with 'prag warmup-data'"


@dataclass(frozen=True)
class WarmupRow:
    """A question with what is to be answered.

    Args:
        row: Its place in the dataset's file, from 0.
        question: As the dataset has it.
        answers: Gold answers and their aliases, at least one.
        chain_of_thought: Reasoning that ends in the right answer; empty for a direct answer.
    """

    row: int
    question: str
    answers: tuple[str, ...]
    chain_of_thought: str = ""

    @classmethod
    def of(cls, question: Question, chain_of_thought: str = "") -> WarmupRow:
        """The row of a dataset's question."""
        return cls(question.test_id, question.question, question.answers, chain_of_thought)

    @property
    def target(self) -> str:
        """What the model is to say."""
        return self.chain_of_thought or self.answers[0]

    def to_json(self) -> dict[str, Json]:
        """The row as plain JSON questions have it, and with its reasoning if it has some."""
        row: dict[str, Json] = {"row": self.row, "question": self.question, "answer": list(self.answers)}
        return {**row, "chain_of_thought": self.chain_of_thought} if self.chain_of_thought else row


def write_rows(path: Path, rows: Sequence[WarmupRow]) -> bool:
    """Write rows, unless they stand there already; gives whether they were written."""
    content = [row.to_json() for row in rows]
    if path.exists() and read_json(path, _MEND) == content:
        return False
    write_json(path, content)
    return True


def read_rows(path: Path, *, with_cot: bool) -> list[WarmupRow]:
    """Read the rows of a file.

    Raises:
        InputError: naming the row that is malformed, or has no chain of thought where one is to be learnt.
    """
    data = read_json(path, _MEND)
    if not isinstance(data, list) or not data:
        raise InputError("the file is no list of warm-up rows", where=str(path), hint=_MEND)
    return [_row(item, f"{path}, row {number}", with_cot=with_cot) for number, item in enumerate(data)]


def _row(value: Json, where: str, *, with_cot: bool) -> WarmupRow:
    if not isinstance(value, Mapping):
        raise InputError(f"a warm-up row is not an object but {type(value).__name__}", where=where, hint=_MEND)
    question, row, thought = value.get("question"), value.get("row"), value.get("chain_of_thought", "")
    answers = answers_from_json(value.get("answer"), where)
    if not isinstance(question, str) or not question.strip() or not answers or not isinstance(row, int):
        raise InputError("a warm-up row needs 'row', 'question' and 'answer'", where=where, hint=_MEND)
    if not isinstance(thought, str) or bool(thought.strip()) != with_cot:
        kind = "no" if with_cot else "a"
        raise InputError(f"the row has {kind} chain of thought", where=where, hint=_MEND)
    return WarmupRow(row, question, answers, thought)
