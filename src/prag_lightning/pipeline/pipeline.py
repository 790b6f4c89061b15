"""An experiment at work: its LLM, its adapters, and what augments, encodes and answers with them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from prag_lightning.augment import ChatAugmenter, Failures, JournalledAugmenter, LLMAugmenter, SharedAugmenter
from prag_lightning.augment.base import Augmenter
from prag_lightning.augment.questions import KnownFirst
from prag_lightning.data.benchmarks import SOURCES
from prag_lightning.data.general_text import GeneralText, general_text_of, load_general_text
from prag_lightning.errors import InputError
from prag_lightning.files import safe_name
from prag_lightning.inference.answerer import Adapters, Answerer
from prag_lightning.inference.asker import Asker
from prag_lightning.inference.card import Card
from prag_lightning.inference.identity import IDENTITY, MADE_BY, content_hash, result_identity
from prag_lightning.inference.methods import InferenceMethod, uses_adapters
from prag_lightning.inference.on_demand import OnDemand
from prag_lightning.journal import Journal
from prag_lightning.llm.compute import Compute
from prag_lightning.llm.devices import device_name
from prag_lightning.llm.loading import LLM, load_llm
from prag_lightning.llm.names import SETTING, base_name, find_model, short_name
from prag_lightning.lora.null_space import NullSpace
from prag_lightning.lora.store import adapter_hash
from prag_lightning.metrics import Extraction, is_out_of_reach
from prag_lightning.pipeline.data import ExperimentData
from prag_lightning.pipeline.provenance import commit, file_hash, versions
from prag_lightning.pipeline.settings import ModelSettings, as_dict
from prag_lightning.processes import ALONE, Processes
from prag_lightning.records import AugmentedPassage, AugmentedQuestion, Json, Question
from prag_lightning.training.examples import ExampleBuilder, objective_name
from prag_lightning.training.layout import Layout, TrainedBase, warmup_directory
from prag_lightning.training.library import AdapterLibrary, PendingPassage
from prag_lightning.training.null_space import NullSpaceFile
from prag_lightning.training.recipe import RECIPE_VERSION


class Pipeline:
    """What the settings of an experiment make. Nothing is loaded or written before it is asked for.

    Args:
        settings: Of the model.
        data: Questions, retriever and augmented records.
        compute: Device and precision of the LLM.
        processes: Those that share the work.
        llm: The LLM, where it has been loaded for these settings before.
    """

    def __init__(
        self,
        settings: ModelSettings,
        data: ExperimentData,
        compute: Compute | None = None,
        processes: Processes = ALONE,
        llm: LLM | None = None,
    ) -> None:
        self.settings, self.data = settings, data
        self.compute, self.processes = compute or Compute(), processes
        self._library: AdapterLibrary | None = None
        self._may_create = False
        if llm is not None and llm.model.dtype == self.compute.dtype:
            llm.model.to(self.compute.device)  # type: ignore[arg-type]
            self.llm = llm

    @cached_property
    def llm(self) -> LLM:
        """The LLM with places for adapters, loaded when it is first asked for."""
        return self._load(self.settings.model_name, self.settings.target_modules)

    @property
    def is_loaded(self) -> bool:
        """Whether the LLM has been asked for before."""
        return "llm" in vars(self)

    def _load(self, model_name: str, target_modules: Sequence[str], setting: str = SETTING) -> LLM:
        return load_llm(
            model_name,
            target_modules=target_modules,
            dtype=self.compute.dtype,
            device=self.compute.device,
            trust_remote_code=self.settings.trust_remote_code,
            setting=setting,
        )

    @cached_property
    def layout(self) -> Layout:
        """Where adapters and results stand."""
        settings, data = self.settings, self.data.settings
        return Layout(
            Path(settings.offline_root),
            Path(settings.output_root),
            safe_name(short_name(settings.model_name), "model.model_name"),
            data.dataset,
            data.writer_name,
            settings.recipe,
            data.with_cot,
            objective_name(
                settings.objective,
                settings.include_text,
                settings.locality,
                settings.distill_samples,
                data.answer_boundary,
            ),
            self._trained_base(),
        )

    def _trained_base(self) -> TrainedBase | None:
        settings = self.settings
        if settings.base_weight is None:
            return None
        directory = Path(settings.base_weight)
        if settings.base_weight == "warmup":
            name = short_name(settings.model_name)
            directory = warmup_directory(Path(settings.warmup_root), name, self.data.settings.with_cot)
        return TrainedBase(directory, adapter_hash(directory))

    # Adapters

    def library(self, *, create: bool) -> AdapterLibrary:
        """The adapters of this experiment, which are opened once, or once more to be added to; see `AdapterLibrary`."""
        if self._library is None or (create and not self._may_create):
            self._may_create = create
            data, settings = self.data, self.settings
            builder = ExampleBuilder(
                data.prompts,
                self.llm.tokenizer,
                data.settings.with_cot,
                data.settings.dataset,
                min(settings.block_size, self.llm.context),
                settings.objective,
                settings.include_text,
                settings.locality,
                settings.distill_samples,
            )
            self._library = AdapterLibrary(
                self.llm,
                builder,
                settings.recipe,
                self.layout,
                settings.adapter_format,
                self._null_space(create=create),
                create=create,
            )
        return self._library

    @cached_property
    def _general_text(self) -> list[GeneralText]:
        settings = self.settings
        return load_general_text(settings.general_text or general_text_of(find_model(settings.model_name).location))

    def _null_space(self, *, create: bool) -> NullSpace | None:
        settings = self.settings
        if settings.null_space is None:
            return None
        folder, prompts = self.layout.null_space, self.data.prompts
        kept = NullSpaceFile(folder, settings.null_space, self._general_text, prompts)
        with self.compute.autocast():
            return kept.open(self.llm, create=create)

    def adapters(self, *, create: bool = False) -> Adapters:
        """The adapters with the way to merge them."""
        return Adapters(self.library(create=create), self.settings.merge)

    def group_tokens(self, passages: Sequence[PendingPassage]) -> int:
        """Tokens in a step of these passages: as configured, or as measured by the first process; one passage is a
        group of its own whatever would be measured."""
        if self.settings.group_tokens != "auto":
            return self.settings.group_tokens
        if len(passages) == 1:
            return 1
        library = self.library(create=True)
        measured = library.measured_group_tokens(passages) if self.processes.rank == 0 else 0
        return int(self.processes.broadcast(measured))

    def groups_to_encode(self, passages: Sequence[AugmentedPassage]) -> list[list[PendingPassage]]:
        """Groups of the passages whose adapters are missing, the same in every process.

        Raises:
            InputError: if no passage can be encoded.
        """
        library = self.library(create=True)
        missing = library.missing(passages)
        if passages and len(library.failed) == len(passages):
            raise InputError(
                f"no passage can be encoded: {next(iter(library.failed.values()))}", where=str(library.store.root)
            )
        if self.processes.rank == 0:
            print(f"{len(missing)} of {len(passages)} passages to encode, in {library.store.root}")
        groups = library.groups(missing, self.group_tokens(missing)) if missing else []
        self.processes.barrier()  # all have seen the same adapters missing
        return groups

    # Augmentation

    def augmenter(self, folder: Path | None = None) -> JournalledAugmenter:
        """What writes about passages for this process.

        Args:
            folder: Of its journal; unset means that of the augmented data.
        """
        folder = self.data.augment_folder if folder is None else folder
        settings, prompts, rank = self.data.settings, self.data.prompts, self.processes.rank
        journal = Journal(folder, rank, {"passage": str})
        failures = Failures(folder / f"failed-replies-{rank}.jsonl")
        if settings.chat is not None:
            name = settings.chat.model or settings.writer
            return ChatAugmenter(settings.chat, name, prompts, settings.augment, journal, failures)
        if settings.writer == self.settings.model_name and self.is_loaded:
            llm = self.llm
        else:
            llm = self._load(settings.writer, (), "data.augment_model" if settings.augment_model else SETTING)
        return LLMAugmenter(llm, prompts, settings.augment, journal, failures, self.compute.autocast)

    def shared(self, augmenter: JournalledAugmenter) -> SharedAugmenter:
        """That of all processes."""
        return SharedAugmenter(augmenter, self.processes)

    # Answers

    @property
    def answer_extraction(self) -> Extraction:
        """How answers are taken from replies: as configured, or else as suits the dataset."""
        return self.settings.answer_extraction or ("paper" if self.data.settings.dataset in SOURCES else "full")

    def report_out_of_reach(self, questions: Iterable[Question]) -> None:
        """Say on the standard error how many gold answers no reply can match."""
        answers = {question.question: question.answers for question in questions}
        lost = sum(is_out_of_reach(aliases, self.answer_extraction) for aliases in answers.values())
        if lost:
            setting = f"model.answer_extraction {self.answer_extraction}"
            print(
                f"gold answers that no reply can match, since {setting} cuts them: {lost} of {len(answers)}",
                file=sys.stderr,
            )

    @property
    def max_new_tokens(self) -> int:
        """Tokens of the longest answer."""
        return self.settings.max_new_tokens or (128 if self.data.settings.with_cot else 20)

    def answerer(self, method: InferenceMethod | None = None) -> Answerer:
        """What answers questions as configured, or by another method."""
        settings, data = self.settings, self.data
        method = settings.inference_method if method is None else method
        return Answerer(
            self.llm,
            data.prompts,
            method,
            self.max_new_tokens,
            self.adapters() if uses_adapters(method) else None,
            data.settings.with_cot,
            data.settings.dataset,
            self.compute.precision,
            settings.abstain_below,
        )

    def card(self) -> Card:
        """Writes what exported adapters say of themselves."""
        data, base = self.data, base_name(self.settings.model_name)
        return Card(
            self.llm,
            base,
            data.prompts,
            self.max_new_tokens,
            data.settings.with_cot,
            data.settings.dataset,
            self.compute.precision,
        )

    def on_demand(
        self, *, adapters: bool | None = None, topk: int | None = None, augmenter: Augmenter | None = None
    ) -> OnDemand:
        """What finds passages for questions as they come, and provides their adapters.

        Args:
            adapters: Whether they are used; unset means as configured.
            topk: Passages a question; unset means as configured.
            augmenter: Augments passages; unset means what the augmented files have, and the configured writer.
        """
        adapters = self.settings.uses_adapters if adapters is None else adapters
        library = self.library(create=True) if adapters else None
        if augmenter is None:
            known = self.data.augmented_passages() if adapters else {}
            augmenter = KnownFirst(known, lambda: self.shared(self.augmenter()))
        return OnDemand(
            self.data.retriever,
            topk or self.data.settings.topk,
            self.data.settings.augment.extra_candidates,
            library,
            augmenter,
            self.group_tokens,
            self.processes,
        )

    def asker(self) -> Asker:
        """What answers single questions; adapters stay in memory between them."""
        on_demand = None if self.settings.inference_method == "vanilla" else self.on_demand()
        return Asker(self.answerer(), on_demand, self.compute.autocast)

    def encoded_passages(
        self, record: AugmentedQuestion, records: Sequence[AugmentedQuestion]
    ) -> Sequence[AugmentedPassage]:
        """The passages whose adapters are merged for a question: its own, or, as a control, those of one half the split
        away.

        Raises:
            InputError: if there is no other question.
        """
        if self.settings.adapters_from == "own":
            return record.passages
        if len(records) < 2:
            raise InputError(
                "there is no other question to take adapters from",
                where="model.adapters_from",
                hint="Raise data.sample",
            )
        place = next(i for i, other in enumerate(records) if other.question.test_id == record.question.test_id)
        return records[(place + len(records) // 2) % len(records)].passages

    def scores(
        self, batch: Sequence[AugmentedQuestion], encoded: Sequence[Sequence[AugmentedPassage]]
    ) -> list[list[float]]:
        """What the passages whose adapters are merged score in retrieval; nothing, unless the merge takes it."""
        return self.data.scores(batch, encoded) if self.settings.merge == "score" and batch else []

    def is_answered(self, answerer: Answerer) -> Callable[[AugmentedQuestion], bool]:
        """What says whether a question has been answered in an earlier run."""
        splits = self.layout.results(self.settings.method).glob("*/journal-*.jsonl")
        no_rank = -1  # reads what others write, and leaves their torn lines to them
        journals = [Journal(folder, no_rank) for folder in sorted({path.parent for path in splits})]

        def answered(record: AugmentedQuestion) -> bool:
            (scores,) = self.scores([record], [record.passages]) or [[]]
            return any(answerer.is_answered(record, journal, record.passages, scores) for journal in journals)

        return answered

    # Results

    def result_config(self, seed: int | None = None) -> dict[str, Json]:
        """What `config.json` says of a result: all settings of model and data, what decides the result beyond its path,
        and what made it.

        Args:
            seed: Of the run, if it has one.
        """
        return {
            "model": as_dict(self.settings) | {"answer_extraction": self.answer_extraction},
            "data": as_dict(self.data.settings),
            IDENTITY: self._identity(),
            MADE_BY: self._made_by(seed),
        }

    def _identity(self) -> dict[str, Json]:
        data = self.data.settings
        content = {
            "model": self.llm.fingerprint,
            "prompts": self.data.prompts.fingerprint(self.llm.tokenizer, with_cot=data.with_cot, dataset=data.dataset),
            "precision": self.compute.precision,
            "max_new_tokens": self.max_new_tokens,
            "answer_extraction": self.answer_extraction,
        }
        if self.settings.uses_adapters and self.settings.null_space is not None:
            content["general_text"] = content_hash([asdict(row) for row in self._general_text])
        if self.settings.uses_adapters:
            content["recipe"] = RECIPE_VERSION
        if data.retrieve_at_test or self.settings.merge == "score":
            content["retriever"] = content_hash(self.data.describe_retriever())
        return result_identity(self.settings.inference_method, as_dict(self.settings) | as_dict(data), content)

    def _made_by(self, seed: int | None) -> dict[str, Json]:
        config, data = self.llm.model.config, self.data
        return {
            "versions": versions(),
            "commit": commit(),
            "seed": seed,
            "precision": self.compute.precision,
            "device": device_name(self.compute.device),
            "processes": self.processes.world_size,
            "model": {
                "name": self.settings.model_name,
                "revision": getattr(config, "_commit_hash", None),
                "fingerprint": self.llm.fingerprint,
            },
            "retriever": data.describe_retriever() or None,
            "augmented": {split: file_hash(path) for split, path in data.record_files().items()},
        }
