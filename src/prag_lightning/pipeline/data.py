"""The data of an experiment: questions, passages to retrieve, and augmented records."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from prag_lightning.augment.files import read_records
from prag_lightning.data.benchmarks import load_questions
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError
from prag_lightning.files import visible
from prag_lightning.pipeline.settings import DataSettings
from prag_lightning.records import AugmentedPassage, AugmentedQuestion, Question
from prag_lightning.retrieval import RankBM25Retriever, Retriever

T = TypeVar("T")
Records = dict[str, list[AugmentedQuestion]]
"""The augmented records by split."""


class ExperimentData:
    """Questions of a dataset with their passages, as they stand on disk whenever they are asked for.

    Args:
        settings: Say which.

    Raises:
        InputError: if the prompt file is missing or malformed.
    """

    def __init__(self, settings: DataSettings) -> None:
        self.settings = settings
        self.prompts = PromptTemplates.load(settings.prompts, settings.answer_boundary, settings.template_date)

    def questions(self) -> dict[str, list[Question]]:
        """The dataset's questions by split, cut to `data_type` and `sample`.

        Raises:
            InputError: for a dataset that is missing or malformed, or has no such split.
        """
        settings = self.settings
        splits = load_questions(settings.dataset, settings.data_path, require_answers=settings.require_answers)
        return {split: self._first(questions) for split, questions in self._chosen(splits, settings.dataset).items()}

    @cached_property
    def retriever(self) -> Retriever:
        """The configured retriever, or BM25 in memory over the corpus.

        Raises:
            InputError: if there is neither.
        """
        if self.settings.retriever is not None:
            return self.settings.retriever
        if self.settings.corpus is None:
            raise InputError(
                "there is nothing to retrieve from", where="data.corpus", hint="Set it to a .tsv or .jsonl file"
            )
        return RankBM25Retriever(self.settings.corpus)

    @property
    def augment_folder(self) -> Path:
        """Where the augmented files stand."""
        return Path(self.settings.augment_root) / self.settings.dataset / self.settings.writer_name

    def records(self) -> Records:
        """The augmented records by split, cut to `data_type`, `sample` and `topk`.

        Raises:
            InputError: if there are none, or one is malformed: the message names file and record.
        """
        files = {path.stem: path for path in self._augmented_files()}
        if not files:
            raise InputError(
                "there is no augmented data",
                where=str(self.augment_folder),
                hint="Run 'prag augment' with the same configuration",
            )
        return {
            split: self._first(self._cut(read_records(path, self.settings.writer_name)))
            for split, path in self._chosen(files, str(self.augment_folder)).items()
        }

    def augmented_passages(self) -> dict[str, AugmentedPassage]:
        """Every passage of the augmented files that there are, by its text."""
        records = (
            record for path in self._augmented_files() for record in read_records(path, self.settings.writer_name)
        )
        return {passage.passage: passage for record in records for passage in record.passages}

    def planned_records(self) -> list[AugmentedQuestion]:
        """The augmented records, and for the questions that have none, or have too few passages, those that retrieval
        gives them, augmented or not.

        Raises:
            InputError: if there are neither records nor questions.
        """
        of_splits = self.records() if self._augmented_files() else {}
        records = {(split, record.question.test_id): record for split in of_splits for record in of_splits[split]}
        try:
            questions = self.questions()
        except InputError:
            if not records:
                raise
            questions = {}
        topk = self.settings.topk
        others = {
            (split, question.test_id): question
            for split in questions
            for question in questions[split]
            if (split, question.test_id) not in records or len(records[split, question.test_id].passages) < topk
        }
        found = self.retriever.search([q.question for q in others.values()], topk) if others else []
        for (place, question), hits in zip(others.items(), found, strict=True):
            passages = tuple(AugmentedPassage(hit.passage.text, "", ()) for hit in hits)
            records[place] = AugmentedQuestion(question, passages)
        return list(records.values())

    def scores(
        self, records: Sequence[AugmentedQuestion], passages: Sequence[Sequence[AugmentedPassage]]
    ) -> list[list[float]]:
        """What each question's passages score in retrieval; 0 for one that is not among those found."""
        depth = self.settings.topk + self.settings.augment.extra_candidates
        found = self.retriever.search([record.question.question for record in records], depth)
        by_text = [{hit.passage.text: hit.score for hit in hits} for hits in found]
        return [
            [scores.get(passage.passage, 0.0) for passage in row] for scores, row in zip(by_text, passages, strict=True)
        ]

    def _augmented_files(self) -> list[Path]:
        return visible(self.augment_folder, "*.json")

    def _chosen(self, splits: dict[str, T], where: str) -> dict[str, T]:
        data_type = self.settings.data_type
        if data_type is None:
            return splits
        if data_type not in splits:
            raise InputError(
                f"there is no split {data_type!r}",
                where=where,
                hint=f"Set data.data_type to one of {', '.join(splits)}",
            )
        return {data_type: splits[data_type]}

    def _first(self, items: list[T]) -> list[T]:
        return items if self.settings.sample == -1 else items[: self.settings.sample]

    def _cut(self, records: list[AugmentedQuestion]) -> list[AugmentedQuestion]:
        return [AugmentedQuestion(record.question, record.passages[: self.settings.topk]) for record in records]


def distinct_passages(records: Records) -> list[AugmentedPassage]:
    """Every distinct augmented passage of the records, in order of occurrence."""
    passages = (passage for of_split in records.values() for record in of_split for passage in record.passages)
    return list({passage.content_hash: passage for passage in passages}.values())
