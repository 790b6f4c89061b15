"""The LightningModule: a thin shell over the encoder and the answerer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT

from prag_lightning.errors import InputError, PragError
from prag_lightning.inference.answerer import Row
from prag_lightning.inference.methods import uses_adapters
from prag_lightning.inference.results import print_results, write_results
from prag_lightning.inference.scores import AnswerScores
from prag_lightning.inference.split_answers import SplitAnswers
from prag_lightning.journal import Journal
from prag_lightning.lightning.experiment import Experiment
from prag_lightning.records import AugmentedPassage, AugmentedQuestion, Question
from prag_lightning.training.library import PendingPassage
from prag_lightning.warmup.questions import check_base_weight

if TYPE_CHECKING:
    from prag_lightning.lightning.trainer import PragTrainer

T = TypeVar("T")
NAMED_FAILURES = 10


class PragModule(Experiment):
    """Encodes passages into adapters (`fit`) and answers questions with them (`test`, `predict`)."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the frozen LLM out of Lightning's checkpoints: what `fit` makes are adapters."""
        checkpoint["state_dict"] = {}

    def configure_optimizers(self) -> None:
        """Nothing: a group's optimiser lives and ends within `training_step`."""

    # fit

    def groups_to_encode(self, passages: Sequence[AugmentedPassage]) -> list[list[PendingPassage]]:
        """Groups of the passages whose adapters are missing."""
        self.open_library(create=True)
        missing = self.library.missing(passages)
        if passages and len(self.library.failed) == len(passages):
            raise InputError(
                f"no passage can be encoded: {next(iter(self.library.failed.values()))}",
                where=str(self.library.store.root),
            )
        self.print(f"{len(missing)} of {len(passages)} passages to encode, in {self.library.store.root}")
        groups = self.library.groups(missing, self.group_size(missing)) if missing else []
        self.trainer.strategy.barrier("all processes have seen the same adapters missing")
        return groups

    def training_step(self, group: list[PendingPassage], batch_idx: int) -> STEP_OUTPUT:
        """Train a group's adapters, all of the recipe's steps, and store them."""
        if not group:
            return None
        started = time.perf_counter()
        encoded = self.library.encode(group)
        seconds = time.perf_counter() - started
        if encoded:
            tokens = sum(passage.tokens for passage in group) * self.recipe.num_train_epochs
            self.log_dict(
                {
                    "encode/loss_first_step": sum(p.losses[0] for p in encoded) / len(encoded),
                    "encode/loss_last_step": sum(p.losses[-1] for p in encoded) / len(encoded),
                    "encode/passages_per_second": len(group) / seconds,
                    "encode/tokens_per_second": tokens / seconds,
                },
                batch_size=len(group),
            )
        return {"encoded": encoded, "base_weight": self.library.base_weight}

    def on_fit_end(self) -> None:
        """Let the published places point to the adapters.

        Raises:
            PragError: naming the passages that could not be encoded.
        """
        failed = {text: reason for share in self._gather(self.library.failed) for text, reason in share.items()}
        if not self.trainer.is_global_zero:
            return
        store = self.library.store
        vanished, unencodable = {}, {}
        for split, records in self.data.records(self.model_name).items():
            for record in records:
                for passage in record.passages:
                    key = self.library.key(passage)
                    if key in store:
                        store.link(split, record.question.test_id, passage.pid, key)
                    elif passage.passage in failed:
                        unencodable[key] = failed[passage.passage]
                    else:
                        vanished[key] = passage.passage
        self.library.keep_unencodable(unencodable)
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

    def find_passages(self, questions: Sequence[Question]) -> list[AugmentedQuestion]:
        """Each question with the passages that are retrieved for it now; adapters that are used and missing are
        made."""
        return cast("PragTrainer", self.trainer).on_demand(self, self.data).passages(questions)

    def on_test_start(self) -> None:
        """Open what answering needs.

        Raises:
            InputError: if a trained `base_weight` has learnt from one of the questions.
        """
        if self.layout.trained_base is not None and uses_adapters(self.inference_method):
            records = self.data.records(self.model_name).values()
            asked = (record.question.question for split in records for record in split)
            check_base_weight(self.layout.trained_base.directory, asked)
        self._start_answering()

    def on_predict_start(self) -> None:
        """Open what answering needs."""
        self._start_answering()

    def _start_answering(self) -> None:
        self.answerer = self.make_answerer()
        self.splits = [
            (
                split,
                SplitAnswers(
                    self.layout.results(self.method, split),
                    self.global_rank,
                    AnswerScores().to(self.device),
                    self.data.with_cot,
                    self.answer_extraction,
                ),
            )
            for split in self.data.records(self.model_name)
        ]
        self.results: dict[str, tuple[list[Row], dict[str, float]]] = {}

    def test_step(self, batch: list[AugmentedQuestion], batch_idx: int, dataloader_idx: int = 0) -> STEP_OUTPUT:
        """Answer a batch and score it against the gold answers; gives this process's scores up to now."""
        split, answers = self.splits[dataloader_idx]
        answers.score(self._answer(batch, split, answers.journal), batch)
        return {"split": split, "scores": answers.so_far()}

    def predict_step(self, batch: list[AugmentedQuestion], batch_idx: int, dataloader_idx: int = 0) -> list[str]:
        """Answer a batch."""
        split, answers = self.splits[dataloader_idx]
        rows = self._answer(batch, split, answers.journal)
        return [row["text"] for row in answers.add(rows)]

    def _answer(self, batch: list[AugmentedQuestion], split: str, journal: Journal) -> list[Row]:
        encoded = [self._encoded_passages(record, split) for record in batch]
        scores = self.data.scores(batch, encoded) if self.merge == "score" and batch else ()
        return self.answerer.answer(batch, journal, encoded, scores)

    def _encoded_passages(self, record: AugmentedQuestion, split: str) -> tuple[AugmentedPassage, ...]:
        """The passages whose adapters are merged: the question's own, or, as a control, those of one half the split
        away."""
        if self.adapters_from == "own":
            return record.passages
        records = self.data.records(self.model_name)[split]
        place = next(i for i, other in enumerate(records) if other.question.test_id == record.question.test_id)
        return records[(place + len(records) // 2) % len(records)].passages

    def on_test_epoch_end(self) -> None:
        """Gather the rows of all processes, write them and log the scores."""
        for split, answers in self.splits:
            values, rows = answers.means(), self._gathered_rows(answers)
            if self.trainer.is_global_zero and rows:
                seconds = sum(row["seconds"] for row in rows) / len(rows)
                values |= {"questions": len(rows), "seconds_per_question": seconds}
                values |= {"unanswered": len(answers.unanswered)} if answers.unanswered else {}
                write_results(answers.directory, self.settings(), rows, values)
                self.results[split] = (rows, values)
            self.log_dict(
                {f"{split}/{name}": value for name, value in values.items()}, rank_zero_only=True, batch_size=1
            )

    def on_test_end(self) -> None:
        """Print the scores, below the progress.

        Raises:
            PragError: naming the questions that could not be answered.
        """
        if self.trainer.is_global_zero:
            if self.results:
                print_results(
                    {
                        answers.directory: self.results[split][1]
                        for split, answers in self.splits
                        if split in self.results
                    }
                )
            self._name_unanswered()

    def on_predict_epoch_end(self) -> None:
        """Gather the answers of all processes and write them."""
        for _, answers in self.splits:
            rows = self._gathered_rows(answers)
            if self.trainer.is_global_zero and rows:
                write_results(answers.directory, self.settings(), rows, None)

    def on_predict_end(self) -> None:
        """Say where the answers are.

        Raises:
            PragError: naming the questions that could not be answered.
        """
        for _, answers in self.splits:
            self.print(f"Answers are in {answers.directory / 'predict.json'}")
        if self.trainer.is_global_zero:
            self._name_unanswered()

    def _name_unanswered(self) -> None:
        unanswered = [
            f"question {test_id} of {split}: {reason}"
            for split, answers in self.splits
            for test_id, reason in sorted(answers.unanswered.items())
        ]
        failed = {} if self._library is None else self._library.failed
        unanswered += [f"the passage {text[:60]!r} was left out: {reason}" for text, reason in failed.items()]
        if unanswered:
            raise PragError(
                f"{len(unanswered)} could not be answered or used, the others were: "
                + "; ".join(unanswered[:NAMED_FAILURES]),
                where=str(self.splits[0][1].directory.parent),
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
