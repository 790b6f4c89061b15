"""The LightningModule: a thin shell over the encoder and the answerer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT

from prag_lightning.errors import PragError
from prag_lightning.inference.answerer import Answerer, Row
from prag_lightning.inference.identity import ResultFolder, claim_folder
from prag_lightning.inference.results import print_results, write_predictions, write_results
from prag_lightning.inference.scores import AnswerScores
from prag_lightning.inference.split_answers import SplitAnswers
from prag_lightning.journal import Journal
from prag_lightning.lightning.datamodule import PragDataModule
from prag_lightning.lightning.processes import processes_of
from prag_lightning.llm.compute import Compute
from prag_lightning.pipeline.data import ExperimentData
from prag_lightning.pipeline.pipeline import Pipeline
from prag_lightning.pipeline.settings import ModelSettings, as_dict
from prag_lightning.records import AugmentedQuestion, Question
from prag_lightning.training.library import PendingPassage
from prag_lightning.warmup.questions import check_base_weight

if TYPE_CHECKING:
    from prag_lightning.llm.loading import LLM

T = TypeVar("T")
NAMED_FAILURES = 10


def pipeline_of(trainer: Trainer, settings: ModelSettings, data: ExperimentData, llm: LLM | None = None) -> Pipeline:
    """An experiment on a trainer's device, in its precision, and shared by its processes."""
    strategy = trainer.strategy
    compute = Compute(strategy.root_device, str(trainer.precision), strategy.precision_plugin.forward_context)
    return Pipeline(settings, data, compute, processes_of(trainer), llm)


class PragModule(LightningModule):
    """Encodes passages into adapters (`fit`) and answers questions with them (`test`, `predict`).

    Args:
        model_name: The LLM: a published short name, a folder, or a hub id.
        settings: The others of `ModelSettings`, by name.
    """

    def __init__(self, model_name: str, **settings: Any) -> None:
        super().__init__()
        self.settings = ModelSettings(model_name=model_name, **settings)
        self.save_hyperparameters(as_dict(self.settings))
        self.automatic_optimization = False
        self.pipeline: Pipeline
        self.answerer: Answerer
        self.answers: dict[str, SplitAnswers] = {}
        """By split, what this process has answered, in the order of the loaders."""
        self.results: dict[str, tuple[list[Row], dict[str, float]]] = {}
        """By split, the rows of all processes and their scores."""
        self.claim: ResultFolder
        """The folder of the results."""
        self.written: list[Path] = []
        """The files of answers without scores."""

    def configure_model(self) -> None:
        """Load the LLM, once, to the trainer's device and in its precision, and let the data module ask for groups."""
        llm = self.pipeline.llm if hasattr(self, "pipeline") else None
        self.pipeline = pipeline_of(self.trainer, self.settings, self._data_module.data, llm)
        self.network = self.pipeline.llm.model
        self._data_module.pipeline = self.pipeline

    @property
    def _data_module(self) -> PragDataModule:
        return cast(PragDataModule, self.trainer.datamodule)  # type: ignore[attr-defined]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the frozen LLM out of Lightning's checkpoints: what `fit` makes are adapters."""
        checkpoint["state_dict"] = {}

    def configure_optimizers(self) -> None:
        """Nothing: a group's optimiser lives and ends within `training_step`."""

    # fit

    def training_step(self, group: list[PendingPassage], batch_idx: int) -> STEP_OUTPUT:
        """Train a group's adapters, all of the recipe's steps, and store them."""
        if not group:
            return None
        library = self.pipeline.library(create=True)
        started = time.perf_counter()
        encoded = library.encode(group)
        seconds = time.perf_counter() - started
        if encoded:
            tokens = sum(passage.tokens for passage in group) * self.settings.num_train_epochs
            self.log_dict(
                {
                    "encode/loss_first_step": sum(p.losses[0] for p in encoded) / len(encoded),
                    "encode/loss_last_step": sum(p.losses[-1] for p in encoded) / len(encoded),
                    "encode/passages_per_second": len(group) / seconds,
                    "encode/tokens_per_second": tokens / seconds,
                },
                batch_size=len(group),
            )
        return {"encoded": encoded, "base_weight": library.base_weight}

    def on_fit_end(self) -> None:
        """Let the published places point to the adapters.

        Raises:
            PragError: naming the passages that could not be encoded.
        """
        library = self.pipeline.library(create=True)
        failed = {text: reason for share in self._gather(library.failed) for text, reason in share.items()}
        if not self.trainer.is_global_zero:
            return
        store = library.store
        vanished, unencodable = {}, {}
        for split, records in self._data_module.records.items():
            for record in records:
                for passage in record.passages:
                    key = library.key(passage)
                    if key in store:
                        store.link(split, record.question.test_id, passage.pid, key)
                    elif passage.passage in failed:
                        unencodable[key] = failed[passage.passage]
                    else:
                        vanished[key] = passage.passage
        library.keep_unencodable(unencodable)
        if vanished:
            raise PragError(
                f"{len(vanished)} adapters are gone that were there before, such as that of "
                f"{next(iter(vanished.values()))[:60]!r}",
                where=str(store.root),
                hint="Something else deletes there: see to it, and run 'prag fit' again, which makes them anew",
            )
        if failed:
            some = "; ".join(f"{text[:60]!r}: {reason}" for text, reason in list(failed.items())[:NAMED_FAILURES])
            raise PragError(
                f"{len(failed)} passages could not be encoded, the others were: {some}",
                where=str(store.root),
                hint="Mend them in the augmented file, or lower model.learning_rate if training diverged",
            )

    # test and predict

    def on_test_start(self) -> None:
        """Open what answering needs.

        Raises:
            InputError: if a trained `base_weight` has learnt from one of the questions.
        """
        trained = self.pipeline.layout.trained_base
        if trained is not None and self.settings.uses_adapters:
            check_base_weight(trained.directory, (question.question for question in self._questions()))
        if self.trainer.is_global_zero:
            self.pipeline.report_out_of_reach(self._questions())
        self._start_answering()

    def _questions(self) -> Iterator[Question]:
        return (record.question for records in self._data_module.records.values() for record in records)

    def on_predict_start(self) -> None:
        """Open what answering needs."""
        self._start_answering()

    def _start_answering(self) -> None:
        self.answerer = self.pipeline.answerer()
        self.answers = {
            split: SplitAnswers(
                self._published_folder / split,
                self.global_rank,
                AnswerScores().to(self.device),
                self._data_module.settings.with_cot,
                self.pipeline.answer_extraction,
            )
            for split in self._data_module.records
        }
        self.results = {}

    def test_step(self, batch: list[AugmentedQuestion], batch_idx: int, dataloader_idx: int = 0) -> STEP_OUTPUT:
        """Answer a batch and score it against the gold answers; gives this process's scores up to now."""
        split = list(self.answers)[dataloader_idx]
        answers = self.answers[split]
        answers.score(self._answer(batch, split, answers.journal), batch)
        return {"split": split, "scores": answers.so_far()}

    def predict_step(self, batch: list[AugmentedQuestion], batch_idx: int, dataloader_idx: int = 0) -> list[str]:
        """Answer a batch."""
        split = list(self.answers)[dataloader_idx]
        answers = self.answers[split]
        return [row["text"] for row in answers.add(self._answer(batch, split, answers.journal))]

    def _answer(self, batch: list[AugmentedQuestion], split: str, journal: Journal) -> list[Row]:
        records = self._data_module.records[split]
        encoded = [self.pipeline.encoded_passages(record, records) for record in batch]
        return self.answerer.answer(batch, journal, encoded, self.pipeline.scores(batch, encoded))

    def on_test_epoch_end(self) -> None:
        """Gather the rows of all processes, write them and log the scores."""
        for split, answers in self.answers.items():
            values, rows = answers.means(), self._gathered_rows(answers)
            if self.trainer.is_global_zero and rows:
                seconds = sum(row["seconds"] for row in rows) / len(rows)
                values |= {"questions": len(rows), "seconds_per_question": seconds, **answers.counts(rows)}
                self.results[split] = (rows, values)
            self.log_dict(
                {f"{split}/{name}": value for name, value in values.items()}, rank_zero_only=True, batch_size=1
            )
        if self.results:
            self._claim_folder({split: rows for split, (rows, _) in self.results.items()}, scored=True)
            for split, (rows, values) in self.results.items():
                write_results(self.claim.folder / split, self.claim.config, rows, values)

    def on_test_end(self) -> None:
        """Print the scores, below the progress.

        Raises:
            PragError: naming the questions that could not be answered.
        """
        if self.results:
            print_results({self.claim.folder / split: scores for split, (_, scores) in self.results.items()})
            self._say_where()
        self._name_unanswered()

    def on_predict_epoch_end(self) -> None:
        """Gather the answers of all processes and write them."""
        gathered = {split: self._gathered_rows(answers) for split, answers in self.answers.items()}
        rows_by_split = {split: rows for split, rows in gathered.items() if self.trainer.is_global_zero and rows}
        if rows_by_split:
            self._claim_folder(rows_by_split, scored=False)
            folder, config = self.claim.folder, self.claim.config
            self.written = [write_predictions(folder / split, config, rows) for split, rows in rows_by_split.items()]

    def on_predict_end(self) -> None:
        """Say where the answers are.

        Raises:
            PragError: naming the questions that could not be answered.
        """
        for path in self.written:
            print(f"Answers are in {path}")
        if self.written:
            self._say_where()
        self._name_unanswered()

    def _claim_folder(self, rows: Mapping[str, Sequence[Row]], *, scored: bool) -> None:
        """Find the folder of results with these rows by split."""
        seed = os.environ.get("PL_GLOBAL_SEED")
        config = self.pipeline.result_config(None if seed is None else int(seed))
        counts = {split: len(some) for split, some in rows.items()}
        self.claim = claim_folder(self._published_folder, config, counts, scored=scored)

    def _say_where(self) -> None:
        """Say where results are that could not have the published folder, and why."""
        if self.claim.reason:
            print(f"{self._published_folder} has {self.claim.reason}; these are in {self.claim.folder}")

    @property
    def _published_folder(self) -> Path:
        return self.pipeline.layout.results(self.settings.method)

    def _name_unanswered(self) -> None:
        if not self.trainer.is_global_zero:
            return
        unanswered = [
            f"question {test_id} of {split}: {reason}"
            for split, answers in self.answers.items()
            for test_id, reason in sorted(answers.unanswered.items())
        ]
        adapters = self.answerer.adapters
        failed = {} if adapters is None else adapters.library.failed
        unanswered += [f"the passage {text[:60]!r} was left out: {reason}" for text, reason in failed.items()]
        if unanswered:
            raise PragError(
                f"{len(unanswered)} could not be answered or used, the others were: "
                + "; ".join(unanswered[:NAMED_FAILURES]),
                where=str(self._published_folder),
                hint="Shorten them, take fewer passages (data.topk), or see what 'prag fit' says of them",
            )

    # Helpers

    def _gather(self, value: T) -> list[T]:
        """Every process's value, when all have come here."""
        if self.trainer.world_size == 1:
            return [value]
        values: list[T | None] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(values, value)
        return cast(list[T], values)

    def _gathered_rows(self, answers: SplitAnswers) -> list[Row]:
        shares = self._gather((answers.rows, answers.unanswered))
        rows = [row for share, _ in shares for row in share]
        answers.unanswered = {test_id: reason for _, share in shares for test_id, reason in share.items()}
        return sorted(rows, key=lambda row: row["test_id"])
