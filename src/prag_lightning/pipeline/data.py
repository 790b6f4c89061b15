"""The data of an experiment: questions, passages to retrieve, and augmented records."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from prag_lightning.augment.files import read_records
from prag_lightning.augment.provenance import Recipe, augment_recipe, chat_writer, llm_writer
from prag_lightning.augment.survey import Augmentation, SplitSurvey, survey
from prag_lightning.data.benchmarks import load_questions, question_file
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError, PragError
from prag_lightning.files import visible
from prag_lightning.pipeline.settings import DataSettings
from prag_lightning.records import AugmentedPassage, AugmentedQuestion, Json, Question
from prag_lightning.retrieval import ElasticsearchRetriever, RankBM25Retriever, Retriever, VersionedRetriever

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
        return {split: self._first(questions) for split, questions in self._all_questions().items()}

    def _all_questions(self) -> dict[str, list[Question]]:
        settings = self.settings
        splits = load_questions(settings.dataset, settings.data_path, require_answers=settings.require_answers)
        return self._chosen(splits, settings.dataset)

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

    def augmentation(self, *, ask_server: bool = True) -> Augmentation:
        """What is to be augmented today.

        Args:
            ask_server: Whether a server may be asked for the version of the corpus that it searches.

        Raises:
            InputError: for a dataset that is missing or malformed, or has no such split.
        """
        settings = self.settings
        retriever = self.retriever if self.has_retriever else None
        retrieval = version = None
        if isinstance(retriever, VersionedRetriever):
            retrieval = retriever.settings()
            if ask_server or not isinstance(retriever, ElasticsearchRetriever):
                with suppress(PragError):  # whoever searches will tell
                    version = retriever.corpus_version()

        def recipe() -> Recipe:
            writer, chat = settings.writer, settings.chat
            made_by = llm_writer(writer) if chat is None else chat_writer(chat, chat.model or writer)
            return augment_recipe(made_by, self.prompts, settings.augment, retrieval)

        return Augmentation(
            self.augment_folder,
            settings.writer_name,
            self._all_questions(),
            settings.topk,
            settings.augment,
            recipe,
            settings.sample,
            version,
        )

    def surveys(self, *, ask_server: bool = False) -> dict[str, SplitSurvey]:
        """What the augmented files have of today's questions, by split; empty where the dataset is not there."""
        try:
            if not question_file(self.settings.dataset, self.settings.data_path).exists():
                return {}
            task = self.augmentation(ask_server=ask_server)
        except InputError:
            return {}
        return {split: survey(task, split) for split in task.questions}

    @property
    def has_retriever(self) -> bool:
        """Whether there is something to retrieve from."""
        return self.settings.retriever is not None or self.settings.corpus is not None

    def describe_retriever(self) -> dict[str, Json]:
        """The retriever's kind and settings, and the version of its corpus, as far as it tells; empty without one."""
        if not self.has_retriever:
            return {}
        retriever = self.retriever
        if not isinstance(retriever, VersionedRetriever):
            return {"retriever": type(retriever).__qualname__}
        version = None
        if self.settings.retrieve_at_test or not isinstance(retriever, ElasticsearchRetriever):
            with suppress(PragError):  # whoever searches will tell
                version = retriever.corpus_version()
        return {**retriever.settings(), "corpus": version}

    def records(self, *, tell: bool = True) -> Records:
        """The augmented records by split, cut to `data_type`, `sample` and `topk`, with today's gold answers where the
        dataset is there.

        Args:
            tell: Say what else has changed since they were written; one of several processes does.

        Raises:
            InputError: if there are none, or one is malformed: the message names file and record.
        """
        chosen, surveys = self.record_files(), self.surveys()
        for found in surveys.values():
            if tell and found.summary:
                print(f"note: {found.path}: {found.summary}. See 'prag augment'", file=sys.stderr)
        return {
            split: self._first(
                self._cut(
                    surveys[split].with_todays_answers()
                    if split in surveys
                    else read_records(path, self.settings.writer_name)
                )
            )
            for split, path in chosen.items()
        }

    def record_files(self) -> dict[str, Path]:
        """The augmented files by split, of `data_type` if it is set.

        Raises:
            InputError: if there are none.
        """
        files = {path.stem: path for path in self._augmented_files()}
        if not files:
            raise InputError(
                "there is no augmented data",
                where=str(self.augment_folder),
                hint="Run 'prag augment' with the same configuration",
            )
        return self._chosen(files, str(self.augment_folder))

    def augmented_passages(self) -> dict[str, AugmentedPassage]:
        """Every passage of the augmented files that there are, by its text."""
        records = (
            record for path in self._augmented_files() for record in read_records(path, self.settings.writer_name)
        )
        return {passage.passage: passage for record in records for passage in record.passages}

    def planned_records(self, surveys: Mapping[str, SplitSurvey]) -> list[AugmentedQuestion]:
        """The augmented records, and for the questions that are still to be augmented, or to be augmented again, those
        that retrieval gives them, augmented or not.

        Args:
            surveys: What the augmented files have; see `surveys`.

        Raises:
            InputError: if there are neither records nor questions.
        """
        if not surveys:
            if self._augmented_files():
                return [record for records in self.records().values() for record in records]
            task = self.augmentation()
            surveys = {split: survey(task, split) for split in task.questions}
        planned: list[AugmentedQuestion] = []
        todo: list[Question] = []
        for split, questions in self.questions().items():
            waiting = surveys[split].todo
            todo += [question for question in questions if question.test_id in waiting]
            done = [surveys[split].records[q.test_id] for q in questions if q.test_id not in waiting]
            planned += self._cut(done)
        found = self.retriever.search([q.question for q in todo], self.settings.topk) if todo else []
        for question, hits in zip(todo, found, strict=True):
            passages = tuple(AugmentedPassage(hit.passage.text, "", ()) for hit in hits)
            planned.append(AugmentedQuestion(question, passages))
        return planned

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
