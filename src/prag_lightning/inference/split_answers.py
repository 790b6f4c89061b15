"""The answers to one split's questions as they come, and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prag_lightning.inference.answerer import Row
from prag_lightning.inference.scores import SCORES, AnswerScores
from prag_lightning.journal import Journal
from prag_lightning.metrics import Extraction, answer_presence, evaluate, is_out_of_reach
from prag_lightning.records import AugmentedQuestion, answers_from_json


class SplitAnswers:
    """What a process has answered of a split.

    Args:
        directory: Where the journal of answers stands; runs of other settings share it, and answers that these leave
            as they are.
        rank: This process's number.
        scores: Takes in what the answers score.
        with_cot: The answers are chains of thought.
        extraction: See `extract_answer`.
    """

    def __init__(
        self, directory: Path, rank: int, scores: AnswerScores, with_cot: bool = False, extraction: Extraction = "paper"
    ) -> None:
        self.scores, self.with_cot, self.extraction = scores, with_cot, extraction
        self.journal = Journal(directory, rank, {"text": str, "seconds": int | float})
        self.rows: list[Row] = []
        self.unanswered: dict[int, str] = {}
        """By the question's `test_id`, why it was not answered."""

    def score(self, rows: Sequence[Row], records: Sequence[AugmentedQuestion]) -> None:
        """Add answers, scored against the gold answers of their questions."""
        answered = self.add(rows)
        records = [record for row, record in zip(rows, records, strict=True) if row in answered]
        for row, record in zip(answered, records, strict=True):
            text, answers = row["text"], list(record.question.answers)
            row.update(evaluate(text, answers, self.with_cot, self.extraction))
            row["presence"] = answer_presence(text, answers)
            row["passage_texts"] = [passage.passage for passage in record.passages]
        self.scores.update(answered)

    def add(self, rows: Sequence[Row]) -> list[Row]:
        """Take in rows, and give those that hold an answer."""
        answered = [row for row in rows if "unanswered" not in row]
        self.unanswered |= {row["test_id"]: row["unanswered"] for row in rows if "unanswered" in row}
        self.rows += answered
        return answered

    def counts(self, rows: Sequence[Row]) -> dict[str, float]:
        """How many questions were not answered, how many the model abstained from, and of how many the extraction cuts
        the gold answer, where there are any; where it may abstain also the mean EM and F1 of those that it answered.

        Args:
            rows: Those of all processes.
        """
        cut = [row for row in rows if is_out_of_reach(answers_from_json(row["answer"], ""), self.extraction)]
        counts = {"unanswered": len(self.unanswered), "out_of_reach": len(cut)}
        said = {name: float(count) for name, count in counts.items() if count}
        if any("abstained" in row for row in rows):
            given = [row for row in rows if not row["abstained"]]
            said |= {"abstained": len(rows) - len(given), "answered": len(given) / len(rows)}
            said |= {f"answered_{name}": sum(row[name] for row in given) / len(given) for name in ("em", "f1") if given}
        return said

    def so_far(self) -> dict[str, float]:
        """The means of this process's scores up to now."""
        means = (self.scores.sums / self.scores.count.clamp(min=1)).tolist()
        return dict(zip(SCORES, means, strict=True))

    def means(self) -> dict[str, float]:
        """The means over all processes, when all have come here."""
        return {name: float(value) for name, value in self.scores.compute().items()}
