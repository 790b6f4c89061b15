"""An experiment: its settings, and what they make of an LLM, a store of adapters and a way to answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Literal

from lightning import LightningModule

from prag_lightning.errors import InputError
from prag_lightning.files import safe_name
from prag_lightning.inference.answerer import Adapters, Answerer
from prag_lightning.inference.methods import INFERENCE_METHODS, InferenceMethod, uses_adapters
from prag_lightning.journal import Journal
from prag_lightning.lightning.datamodule import PragDataModule
from prag_lightning.llm.loading import LLM, load_llm_for
from prag_lightning.llm.names import short_name
from prag_lightning.lora.names import ADAPTER_FORMATS, DEFAULT_TARGETS, MERGES, AdapterFormat, Merge
from prag_lightning.lora.store import adapter_hash
from prag_lightning.metrics import Extraction
from prag_lightning.records import AugmentedQuestion, Json
from prag_lightning.training.examples import (
    INCLUDE_TEXTS,
    OBJECTIVES,
    ExampleBuilder,
    IncludeText,
    Objective,
    objective_name,
)
from prag_lightning.training.layout import Layout, TrainedBase, warmup_directory
from prag_lightning.training.library import AdapterLibrary, PendingPassage
from prag_lightning.training.recipe import TrainingRecipe


class Experiment(LightningModule):
    """One experiment's LLM, adapters and answers, as its settings say.

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
        include_text: Train also on the text of the passage or its rewrite (none, passage, rewrite), for facts that no
            QA pair asks for.
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
        include_text: IncludeText = "none",
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
                raise InputError(f"{name} is {value}", where=f"model.{name}", hint="Give 1 or more")
        for name in ("locality", "distill_samples"):
            if self.hparams[name] < 0:
                raise InputError(f"{name} is {self.hparams[name]}", where=f"model.{name}", hint="Give 0 or more")
        if not 0 < learning_rate < inf:
            raise InputError(
                f"learning_rate is {learning_rate}", where="model.learning_rate", hint="Give a number above 0"
            )
        _one_of("inference_method", inference_method, INFERENCE_METHODS)
        _one_of("adapter_format", adapter_format, ADAPTER_FORMATS)
        _one_of("merge", merge, MERGES)
        _one_of("objective", objective, OBJECTIVES)
        _one_of("include_text", include_text, INCLUDE_TEXTS)
        self.model_name = model_name
        self.inference_method = inference_method
        self.recipe = TrainingRecipe(
            lora_rank, lora_alpha, learning_rate, num_train_epochs, per_device_train_batch_size
        )
        self.objective, self.include_text = objective, include_text
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

    def configure_model(self) -> None:
        """Load the LLM, once, to the trainer's device and in its precision."""
        if hasattr(self, "llm"):
            return
        self.llm: LLM = load_llm_for(
            self.trainer, self.model_name, self.target_modules, trust_remote_code=self.trust_remote_code
        )
        self.network = self.llm.model
        self.data: PragDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        boundary = self.data.prompt_templates.answer_boundary
        self.layout = Layout(
            self.offline_root,
            self.output_root,
            safe_name(short_name(self.model_name), "model.model_name"),
            self.data.dataset,
            self.data.augment_name(self.model_name),
            self.recipe,
            self.data.with_cot,
            objective_name(self.objective, self.include_text, self.locality, self.distill_samples, boundary),
            self._trained_base(),
        )

    def _trained_base(self) -> TrainedBase | None:
        if self.base_weight is None:
            return None
        directory = Path(self.base_weight)
        if self.base_weight == "warmup":
            directory = warmup_directory(self.warmup_root, short_name(self.model_name), self.data.with_cot)
        return TrainedBase(directory, adapter_hash(directory))

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
            self.include_text,
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

    def group_size(self, passages: Sequence[PendingPassage]) -> int:
        """Tokens in a step of these passages: as configured, or as measured by the first process."""
        if self.group_tokens != "auto":
            return self.group_tokens
        measured = self.library.measured_group_tokens(passages) if self.trainer.is_global_zero else 0
        return self.trainer.strategy.broadcast(measured)

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
        splits = self.layout.results(self.method, "any").parent.glob("*/journal-*.jsonl")
        no_rank = -1  # reads what others write, and leaves their torn lines to them
        journals = [Journal(folder, no_rank) for folder in sorted({path.parent for path in splits})]
        by_score = self.merge == "score"

        def is_answered(record: AugmentedQuestion) -> bool:
            scores = self.data.scores([record], [record.passages])[0] if by_score else ()
            return any(answerer.is_answered(record, journal, record.passages, scores) for journal in journals)

        return is_answered

    @property
    def method(self) -> str:
        """The inference method's name in paths, with its merge and control."""
        merge = self.merge if self.merge != "sum" and uses_adapters(self.inference_method) else None
        other = "other" if self.adapters_from == "other" else None
        return "-".join(filter(None, (self.inference_method, merge, other)))

    def settings(self) -> dict[str, Json]:
        """All settings of model and data, for `config.json`."""
        data = {k: asdict(v) if hasattr(v, "__dataclass_fields__") else v for k, v in self.data.hparams.items()}
        return {"model": dict(self.hparams), "data": data}


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InputError(f"{name} is {value!r}", where=f"model.{name}", hint=f"Give one of {', '.join(allowed)}")
