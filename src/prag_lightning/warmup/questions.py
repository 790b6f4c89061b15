"""Which questions a warm-up may learn from: never one that testing asks."""

from __future__ import annotations

import hashlib
import random
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prag_lightning.data.benchmarks import TOTAL, Splits, load_questions, question_file
from prag_lightning.errors import InputError
from prag_lightning.files import safe_name
from prag_lightning.metrics import normalize_answer
from prag_lightning.records import Question

HASHES_FILE = "questions.sha256"
"""Stands beside a trained `base_weight`, and has the hash of each question that it has learnt from."""


@dataclass(frozen=True)
class TestSet:
    """Questions that `prag test` asks.

    Args:
        dataset: As in the experiment.
        data_path: As in the experiment.
        data_type: The split; unset means each.
        sample: How many questions of each split are asked, from the first on; -1 means all.
    """

    __test__ = False  # not a test case, whatever its name makes pytest think

    dataset: str
    data_path: str | None = None
    data_type: str | None = None
    sample: int = -1

    def questions(self) -> list[Question]:
        """The questions that are asked."""
        splits = load_questions(self.dataset, self.data_path)
        return [
            question
            for split, questions in splits.items()
            if self.data_type in (None, split)
            for question in (questions if self.sample == -1 else questions[: self.sample])
        ]


@dataclass(frozen=True)
class WarmupSource:
    """Questions that a warm-up is drawn from.

    Args:
        dataset: A benchmark's name, or any other for plain JSON.
        data_path: The dataset's file or folder; for a benchmark unset means data/{dataset}.
        data_type: The split; unset means all questions.
        first_row: Rows of the file count from here on; unset means from the one after the last that testing asks.
        candidates: How many rows from there on may be drawn; -1 means all.
        rows: How many are wanted; -1 means all of them.
    """

    dataset: str
    data_path: str | None = None
    data_type: str | None = None
    first_row: int | None = None
    candidates: int = -1
    rows: int = -1

    def __post_init__(self) -> None:
        safe_name(self.dataset, "data.sources.dataset")
        if self.data_type is not None:
            safe_name(self.data_type, "data.sources.data_type")
        for name, least in (("first_row", 0), ("candidates", 1), ("rows", 1)):
            value = getattr(self, name)
            if value is not None and value < least and not (least and value == -1):
                hint = f"Give {least} or more" + (", or -1 for all" if least else "")
                raise InputError(f"{name} is {value}", where=f"data.sources, {self.dataset}", hint=hint)

    @property
    def name(self) -> str:
        """Of the file that its rows stand in."""
        return self.dataset if self.data_type is None else f"{self.dataset}_{self.data_type}"

    @property
    def file(self) -> Path:
        """Where its questions are."""
        return question_file(self.dataset, self.data_path)

    def questions(self) -> list[Question]:
        """All its questions, in the order of their rows.

        Raises:
            InputError: if there is no such split.
        """
        splits = load_questions(self.dataset, self.data_path)
        split = self.data_type or _whole(splits)
        if split not in splits:
            raise InputError(
                f"there is no split {split!r}" if split else "the folder has several splits",
                where=str(self.file),
                hint=f"Set data_type of this source to one of {', '.join(splits)}",
            )
        return splits[split]


def _whole(splits: Splits) -> str:
    if TOTAL in splits:
        return TOTAL
    return next(iter(splits)) if len(splits) == 1 else ""


@dataclass(frozen=True)
class Candidates:
    """Rows that a warm-up may learn from, in the order in which they are drawn.

    Args:
        source: Where they come from.
        questions: The rows, in a random order that `seed` decides.
        first_row: The first that could be among them.
        asked_in_tests: How many rows were left out since testing asks the same in other rows.
    """

    source: WarmupSource
    questions: tuple[Question, ...] = field(repr=False)
    first_row: int
    asked_in_tests: int


def draw(source: WarmupSource, tests: Sequence[TestSet], seed: int) -> Candidates:
    """The rows of a source that a warm-up may learn from, each question once.

    Args:
        source: Where they come from.
        tests: What testing asks.
        seed: Decides their order.

    Raises:
        InputError: if there are none, or fewer than the source is to give.
    """
    asked = question_hashes(question.question for test in tests for question in test.questions())
    first_row = source.first_row
    if first_row is None:
        same_file = [test for test in tests if question_file(test.dataset, test.data_path) == source.file]
        first_row = 1 + max((q.test_id for test in same_file for q in test.questions()), default=-1)
    rows = [question for question in source.questions() if question.test_id >= first_row]
    rows = rows if source.candidates == -1 else rows[: source.candidates]
    free: dict[str, Question] = {}
    left_out = 0
    for question in rows:
        key = question_hash(question.question)
        left_out += key in asked
        if key not in asked:
            free.setdefault(key, question)
    if len(free) < max(1, source.rows):
        raise InputError(
            f"{len(free)} questions from row {first_row} on can be learnt from, of {max(1, source.rows)} wanted",
            where=str(source.file),
            hint="Lower rows or first_row of this source, or sample of the test sets",
        )
    questions = list(free.values())
    random.Random(f"{seed} {source.name}").shuffle(questions)
    return Candidates(source, tuple(questions), first_row, left_out)


def question_hash(question: str) -> str:
    """The first 16 hex digits of the SHA-256 of a question without what does not change it: case, punctuation,
    articles, white space and Unicode's ways of writing the same."""
    normalised = normalize_answer(unicodedata.normalize("NFKC", question))
    return hashlib.sha256(normalised.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def question_hashes(questions: Iterable[str]) -> set[str]:
    """Of several; see `question_hash`."""
    return {question_hash(question) for question in questions}


def check_disjoint(learnt: set[str], asked: Iterable[str], where: str, hint: str) -> None:
    """Look whether testing asks a question that a warm-up learns from.

    Args:
        learnt: Hashes of the questions that are learnt from.
        asked: The questions that testing asks.
        where: Where the former stand.
        hint: What to do if it does.

    Raises:
        InputError: naming such a question.
    """
    both = [question for question in asked if question_hash(question) in learnt]
    if both:
        raise InputError(
            f"the warm-up has learnt from {len(both)} questions that testing asks, such as {both[0]!r}",
            where=where,
            hint=hint,
        )


def check_base_weight(directory: Path, asked: Iterable[str]) -> None:
    """Look whether a trained `base_weight` has learnt from a question that testing asks; one that does not say what it
    has learnt from is let through, with a line that says so.

    Args:
        directory: Of the adapter.
        asked: The questions that testing asks.

    Raises:
        InputError: naming such a question.
    """
    path = directory / HASHES_FILE
    if path.is_file():
        hint = "Draw its rows again with these questions in data.test_sets of the warm-up, and train it again"
        check_disjoint(set(path.read_text(encoding="utf-8").split()), asked, str(directory), hint)
    else:
        print(f"The base_weight in {directory} does not say which questions it has learnt from", file=sys.stderr)
