"""The LightningModule: a thin shell over the encoder and the answerer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import STEP_OUTPUT

from prag_lightning.answer import INFERENCE_METHODS, InferenceMethod, uses_adapters
from prag_lightning.answerer import Adapters, Answerer, Row
from prag_lightning.datamodule import PragDataModule
from prag_lightning.encode import TrainingRecipe
from prag_lightning.errors import InputError, PragError
from prag_lightning.examples import OBJECTIVES, STATEMENTS, ExampleBuilder, Objective, Statement, objective_name
from prag_lightning.files import Journal, safe_name
from prag_lightning.layout import Layout, TrainedBase, warmup_directory
from prag_lightning.library import AdapterLibrary, Unencoded
from prag_lightning.llm import DTYPES, LLM, load_llm, short_name
from prag_lightning.lora.merge import MERGES, Merge
from prag_lightning.lora.stack import DEFAULT_TARGETS
from prag_lightning.lora.store import ADAPTER_FORMATS, AdapterFormat, adapter_hash
from prag_lightning.metrics import AnswerScores, Extraction
from prag_lightning.records import AugmentedPassage, AugmentedQuestion, Json, Question
from prag_lightning.results import print_results, write_results
from prag_lightning.split_answers import SplitAnswers
from prag_lightning.warmup.questions import check_base_weight

if TYPE_CHECKING:
    from prag_lightning.trainer import PragTrainer

T = TypeVar("T")
NAMED_FAILURES = 10


class PragModule(LightningModule):
    """Encodes passages into adapters (`fit`) and answers questions with them (`test`, `predict`).

    Args:
        model_name: The LLM: a published short name, a folder, or a hub id.
        inference_method: vanilla (the question alone), icl (passages in the prompt), prag (their adapters), combine
            (both).
        lora_rank: Rank of an adapter.
        lora_alpha: An adapter's update is scaled by lora_alpha / lora_rank.
        learning_rate: Of AdamW.
        num_train_epochs: How often each example of a passage is seen.
        per_device_train_batch_size: Examples of one passage in a step.
        block_size: Examples are cut at this many tokens.
        objective: published (the method's), answer (loss on the answer alone), closed_book (questions without the
            passage), distill (likewise, but matching what the model predicts with the passage in its prompt).
        statement: Train also on the text of the passage or its rewrite (none, passage, rewrite), for facts that no QA
            pair asks for.
        locality: Train also on so many questions a QA pair about other things, to be answered as without an adapter:
            adapters then bear being merged, and the model keeps what it knew.
        distill_samples: Of distill: how many continuations of each question the model writes when it sees the passage,
            to be matched like the answer.
        group_tokens: Tokens in a step of passages trained together: more is faster until memory or the device is full;
            auto measures that once, and keeps it beside the adapters.
        max_new_tokens: Longest answer; unset means 20, or 128 with a chain of thought.
        answer_extraction: paper (cut at the first full stop, line break or comma) or full (keeps "Washington, D.C.").
        merge: How the adapters of a question's passages become one: sum (the method's), mean, score (weighted by
            retrieval), ties, orthogonal.
        adapters_from: own, or other: a control that merges the adapters of another question's passages.
        adapter_format: How adapters are stored: float32 (published), bfloat16 (half), or int4 (an eighth: the
            difference from base_weight at four bits a value; PEFT loads it after prag export).
        target_modules: Linear layers that carry adapters.
        base_weight: The adapter that every passage starts from: unset means a random one, always the same; warmup is
            what a warm-up has trained, under warmup_root; anything else is a PEFT directory.
        offline_root: Root of the adapters.
        warmup_root: Root of warm-ups.
        output_root: Root of the results.
        trust_remote_code: Run code that comes with the model.
    """

    def __init__(
        self,
        model_name: str,
        inference_method: InferenceMethod = "prag",
        lora_rank: int = 2,
        lora_alpha: int = 32,
        learning_rate: float = 3e-4,
        num_train_epochs: int = 1,
        per_device_train_batch_size: int = 1,
        block_size: int = 3000,
        objective: Objective = "published",
        statement: Statement = "none",
        locality: int = 0,
        distill_samples: int = 0,
        group_tokens: int | Literal["auto"] = 8192,
        max_new_tokens: int | None = None,
        answer_extraction: Extraction = "paper",
        merge: Merge = "sum",
        adapters_from: Literal["own", "other"] = "own",
        adapter_format: AdapterFormat = "float32",
        target_modules: Sequence[str] = DEFAULT_TARGETS,
        base_weight: str | None = None,
        offline_root: str = "checkpoints/offline",
        warmup_root: str = "checkpoints/warmup",
        output_root: str = "logs/output",
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        at_least_one = ("lora_rank", "lora_alpha", "num_train_epochs", "per_device_train_batch_size", "block_size")
        for name in (*at_least_one, "group_tokens", "max_new_tokens"):
            value = self.hparams[name]
            if isinstance(value, int) and value < 1:
                raise InputError(f"{name} is {value}", where=f"model.{name}", mend="Give 1 or more")
        for name in ("locality", "distill_samples"):
            if self.hparams[name] < 0:
                raise InputError(f"{name} is {self.hparams[name]}", where=f"model.{name}", mend="Give 0 or more")
        if not 0 < learning_rate < inf:
            raise InputError(
                f"learning_rate is {learning_rate}", where="model.learning_rate", mend="Give a number above 0"
            )
        _one_of("inference_method", inference_method, INFERENCE_METHODS)
        _one_of("adapter_format", adapter_format, ADAPTER_FORMATS)
        _one_of("merge", merge, MERGES)
        _one_of("objective", objective, OBJECTIVES)
        _one_of("statement", statement, STATEMENTS)
        self.model_name = model_name
        self.inference_method = inference_method
        self.recipe = TrainingRecipe(
            lora_rank, lora_alpha, learning_rate, num_train_epochs, per_device_train_batch_size
        )
        self.objective, self.statement = objective, statement
        self.locality, self.distill_samples = locality, distill_samples
        self.block_size = block_size
        self.group_tokens: int | Literal["auto"] = group_tokens
        self.max_new_tokens, self.answer_extraction = max_new_tokens, answer_extraction
        self.adapter_format: AdapterFormat = adapter_format
        self.merge, self.adapters_from = merge, adapters_from
        self.target_modules, self.trust_remote_code = tuple(target_modules), trust_remote_code
        self.offline_root, self.output_root = Path(offline_root), Path(output_root)
        self.base_weight, self.warmup_root = base_weight, Path(warmup_root)
        self._library: AdapterLibrary | None = None

    # The LLM and the adapter store

    def configure_model(self) -> None:
        """Load the LLM, once, to the trainer's device and in its precision."""
        if hasattr(self, "llm"):
            return
        self.llm: LLM = load_llm(
            self.model_name,
            target_modules=self.target_modules,
            dtype=DTYPES.get(str(self.trainer.precision), torch.float32),
            device=self.trainer.strategy.root_device,
            trust_remote_code=self.trust_remote_code,
        )
        self.network = self.llm.model
        self.data: PragDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        self.layout = Layout(
            self.offline_root,
            self.output_root,
            safe_name(short_name(self.model_name), "model.model_name"),
            self.data.dataset,
            self.data.augment_name(self.model_name),
            self.recipe,
            self.data.with_cot,
            objective_name(self.objective, self.statement, self.locality, self.distill_samples),
            self._trained_base(),
        )

    def _trained_base(self) -> TrainedBase | None:
        if self.base_weight is None:
            return None
        directory = Path(self.base_weight)
        if self.base_weight == "warmup":
            directory = warmup_directory(self.warmup_root, short_name(self.model_name), self.data.with_cot)
        return TrainedBase(directory, adapter_hash(directory))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the frozen LLM out of Lightning's checkpoints: what `fit` makes are adapters."""
        checkpoint["state_dict"] = {}

    def configure_optimizers(self) -> None:
        """Nothing: a group's optimiser lives and ends within `training_step`."""

    def open_library(self, *, create: bool) -> AdapterLibrary:
        """The adapters of this experiment, which is opened once; see `AdapterLibrary`."""
        data = self.data
        if self._library is not None:
            return self._library
        builder = ExampleBuilder(
            data.prompt_templates,
            self.llm.tokenizer,
            data.with_cot,
            data.dataset,
            min(self.block_size, self.llm.context),
            self.objective,
            self.statement,
            self.locality,
            self.distill_samples,
        )
        self._library = AdapterLibrary(self.llm, builder, self.recipe, self.layout, self.adapter_format, create=create)
        return self._library

    @property
    def library(self) -> AdapterLibrary:
        """The adapters, once opened."""
        assert self._library is not None
        return self._library

    # fit

    def groups_to_encode(self, passages: Sequence[AugmentedPassage]) -> list[list[Unencoded]]:
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

    def group_size(self, passages: Sequence[Unencoded]) -> int:
        """Tokens in a step of these passages: as configured, or as measured by the first process."""
        if self.group_tokens != "auto":
            return self.group_tokens
        measured = self.library.measured_group_tokens(passages) if self.trainer.is_global_zero else 0
        return self.trainer.strategy.broadcast(measured)

    def training_step(self, group: list[Unencoded], batch_idx: int) -> STEP_OUTPUT:
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
                mend="Something else deletes there: see to it, and run 'prag fit' again, which makes them anew",
            )
        if failed:
            some = "; ".join(f"{text[:60]!r}: {reason}" for text, reason in list(failed.items())[:NAMED_FAILURES])
            raise PragError(
                f"{len(failed)} passages could not be encoded, the others were: {some}",
                where=str(store.root),
                mend="Mend them in the augmented file, or lower model.learning_rate if training diverged",
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

    def make_answerer(self) -> Answerer:
        """Answers questions as configured."""
        data, adapters = self.data, None
        if uses_adapters(self.inference_method):
            adapters = Adapters(self.open_library(create=False), self.merge)
        return Answerer(
            self.llm,
            data.prompt_templates,
            self.inference_method,
            self.max_new_tokens or (128 if data.with_cot else 20),
            adapters,
            data.with_cot,
            data.dataset,
            str(self.trainer.precision),
        )

    def answered_before(self, answerer: Answerer) -> Callable[[AugmentedQuestion], bool]:
        """What says whether a question has been answered in an earlier run."""
        splits = self.layout.results(self._method, "any").parent.glob("*/journal-*.jsonl")
        no_rank = -1  # reads what others write, and leaves their torn lines to them
        journals = [Journal(folder, no_rank) for folder in sorted({path.parent for path in splits})]
        by_score = self.merge == "score"

        def is_answered(record: AugmentedQuestion) -> bool:
            scores = self.data.scores([record], [record.passages])[0] if by_score else ()
            return any(answerer.is_answered(record, journal, record.passages, scores) for journal in journals)

        return is_answered

    def _start_answering(self) -> None:
        self.answerer = self.make_answerer()
        self.splits = [
            (
                split,
                SplitAnswers(
                    self.layout.results(self._method, split),
                    self.global_rank,
                    AnswerScores(self.data.with_cot, self.answer_extraction).to(self.device),
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
                write_results(answers.directory, self._config(), rows, values)
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
                print_results([answers.directory for split, answers in self.splits if split in self.results])
            self._name_unanswered()

    def on_predict_epoch_end(self) -> None:
        """Gather the answers of all processes and write them."""
        for _, answers in self.splits:
            rows = self._gathered_rows(answers)
            if self.trainer.is_global_zero and rows:
                write_results(answers.directory, self._config(), rows, None)

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
                mend="Shorten them, take fewer passages (data.topk), or see what 'prag fit' says of them",
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

    @property
    def _method(self) -> str:
        merge = self.merge if self.merge != "sum" and uses_adapters(self.inference_method) else None
        other = "other" if self.adapters_from == "other" else None
        return "-".join(filter(None, (self.inference_method, merge, other)))

    def _config(self) -> dict[str, Json]:
        data = {k: asdict(v) if hasattr(v, "__dataclass_fields__") else v for k, v in self.data.hparams.items()}
        return {"model": dict(self.hparams), "data": data}


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InputError(f"{name} is {value!r}", where=f"model.{name}", mend=f"Give one of {', '.join(allowed)}")
