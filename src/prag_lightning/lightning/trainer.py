"""Lightning's Trainer with the method's stages, and processes that share nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.strategies import DDPStrategy

from prag_lightning.augment import ChatAugmenter, Failures, JournalledAugmenter, LLMAugmenter, SharedAugmenter
from prag_lightning.augment.files import augment_dataset
from prag_lightning.commands.ask import Asker, answer_all, show_json, show_text
from prag_lightning.commands.check import check_adapters
from prag_lightning.commands.export import Exporter, named_passages
from prag_lightning.commands.hub import check_hub, push
from prag_lightning.commands.plan import StagePlan, check_memory, plan_augment, plan_fit, plan_test, print_plan
from prag_lightning.costs import Cost, record_cost
from prag_lightning.errors import InputError, PragError
from prag_lightning.inference.answerer import Adapters
from prag_lightning.inference.methods import uses_adapters
from prag_lightning.inference.on_demand import OnDemand
from prag_lightning.journal import Journal
from prag_lightning.lightning.callbacks import CostRecord, PragProgressBar
from prag_lightning.lightning.datamodule import PragDataModule
from prag_lightning.lightning.module import NAMED_FAILURES, PragModule
from prag_lightning.lightning.precision import check_precision, use_llm_precision
from prag_lightning.lightning.summaries import Summaries
from prag_lightning.llm.devices import device_name
from prag_lightning.llm.loading import DTYPES, load_llm_for, parameter_bytes
from prag_lightning.llm.names import short_name
from prag_lightning.records import AugmentedQuestion

TRAINER_DEFAULTS: dict[str, Any] = {
    "max_epochs": 1,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "log_every_n_steps": 1,
    "use_distributed_sampler": False,
}
"""What differs from Lightning's own defaults: an epoch is one pass over the groups, which is all there is to train."""


class IndependentProcesses(DDPStrategy):
    """Processes that each encode their own passages: launched, counted and gathered as in DDP, but no gradient is
    exchanged."""

    def configure_ddp(self) -> None:
        """Leave the model unwrapped: averaging gradients of different passages would be wrong."""


class PragTrainer(Trainer):
    """A Trainer that also augments and reports; see `lightning.Trainer` for its arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for name, value in TRAINER_DEFAULTS.items():
            kwargs.setdefault(name, value)
        callbacks = kwargs.get("callbacks") or []
        callbacks = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
        if kwargs.get("enable_progress_bar") is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(PragProgressBar())
        kwargs["callbacks"] = [*callbacks, CostRecord(), Summaries()]
        check_precision(kwargs.get("precision"))
        super().__init__(*args, **kwargs)
        if kwargs.get("strategy", "auto") in ("auto", "ddp") and type(self.strategy) is DDPStrategy:
            kwargs["strategy"] = IndependentProcesses()
            super().__init__(*args, **kwargs)
        use_llm_precision(self, kwargs.get("precision"))

    def augment(self, model: PragModule, datamodule: PragDataModule) -> None:
        """Let an LLM write a rewrite and QA pairs for the passages of each question.

        Each process writes about its share; the first one puts all together.
        """
        if self.strategy.launcher is None:
            self._augment(model, datamodule)
        else:
            self.strategy.launcher.launch(self._augment, model, datamodule, trainer=self)

    def _augment(self, model: PragModule, datamodule: PragDataModule) -> None:
        self.strategy.setup_environment()
        made: list[JournalledAugmenter] = []
        folder = datamodule.augment_folder(model.model_name)

        def make_augmenter() -> SharedAugmenter:
            made.append(self._augmenter(model, datamodule, folder))
            return SharedAugmenter(made[0], self.global_rank, self.world_size, self.strategy.barrier)

        try:
            augment_dataset(
                datamodule.questions(),
                lambda texts, count: datamodule.retriever.search(texts, count),
                folder,
                datamodule.augment_name(model.model_name),
                make_augmenter,
                topk=datamodule.topk,
                extra_candidates=datamodule.augment_settings.extra_candidates,
                write=self.is_global_zero,
            )
        finally:
            device = "server" if datamodule.chat is not None else device_name(self.strategy.root_device)
            for augmenter in made:
                cost = Cost("augment", augmenter.passages, augmenter.seconds, device, self.world_size)
                record_cost(folder, cost)
        self.strategy.barrier()
        for augmenter in made:
            augmenter.failures.report()
        self.strategy.teardown()
        if made and made[0].failures.skipped and self.is_global_zero:
            skipped = made[0].failures.skipped.items()
            some = "; ".join(f"{text[:60]!r}: {reason}" for text, reason in list(skipped)[:NAMED_FAILURES])
            raise PragError(
                f"{len(skipped)} passages could not be augmented, the others were: {some}",
                where=str(folder),
                hint="The next best took their places, where there were any; cut the passages shorter to have them",
            )

    def _augmenter(self, model: PragModule, data: PragDataModule, folder: Path) -> JournalledAugmenter:
        journal = Journal(folder, self.global_rank, {"passage": str})
        failures = Failures(folder / f"failed-replies-{self.global_rank}.jsonl")
        if data.chat is not None:
            name = data.chat.model or str(data.augment_model)
            return ChatAugmenter(data.chat, name, data.prompt_templates, data.augment_settings, journal, failures)
        own = data.augment_name(model.model_name) == short_name(model.model_name)
        llm = (
            model.llm
            if own and hasattr(model, "llm")
            else load_llm_for(
                self,
                data.augment_model or model.model_name,
                target_modules=(),
                trust_remote_code=model.trust_remote_code,
                setting="data.augment_model" if data.augment_model else "model.model_name",
            )
        )
        autocast = self.strategy.precision_plugin.forward_context
        return LLMAugmenter(llm, data.prompt_templates, data.augment_settings, journal, failures, autocast)

    def fit(self, model: PragModule, datamodule: PragDataModule) -> None:  # type: ignore[override]
        """Encode the passages into adapters."""
        super().fit(model, datamodule=datamodule)

    def test(self, model: PragModule, datamodule: PragDataModule) -> Any:  # type: ignore[override]
        """Answer the questions and score the answers."""
        return super().test(model, datamodule=datamodule, verbose=False)

    def predict(self, model: PragModule, datamodule: PragDataModule) -> Any:  # type: ignore[override]
        """Answer questions that have no gold answers."""
        return super().predict(model, datamodule=datamodule, return_predictions=False)

    def ask(
        self, model: PragModule, datamodule: PragDataModule, question: str | None = None, json: bool = False
    ) -> None:
        """Answer a question of one's own; passages are retrieved, and encoded if they have not been.

        Args:
            model: Says how passages are used.
            datamodule: Finds them.
            question: Unset means those that are typed at a prompt, or stand in the lines of the standard input.
            json: Print each answer, with its passages and timings, as a line of JSON.
        """
        answer_all(self.asker(model, datamodule), question, show_json if json else show_text)

    def asker(self, model: PragModule, datamodule: PragDataModule) -> Asker:
        """What answers single questions, as `ask` does; adapters stay in memory between them."""
        self._attach(model, datamodule)
        model.to(self.strategy.root_device)
        on_demand = None if model.inference_method == "vanilla" else self.on_demand(model, datamodule)
        return Asker(model.make_answerer(), on_demand, self.precision_plugin.forward_context)

    def on_demand(self, model: PragModule, data: PragDataModule, *, adapters: bool | None = None) -> OnDemand:
        """What finds passages for questions as they come, and provides their adapters, where they are used unless
        `adapters` says otherwise."""
        adapters = uses_adapters(model.inference_method) if adapters is None else adapters
        library = model.open_library(create=True) if adapters else None
        rank, world_size, barrier = self.global_rank, self.world_size, self.strategy.barrier
        folder = data.augment_folder(model.model_name)

        @cache
        def make_augmenter() -> SharedAugmenter:
            return SharedAugmenter(self._augmenter(model, data, folder), rank, world_size, barrier)

        known = {} if library is None else data.augmented_passages(model.model_name)
        spare = data.augment_settings.extra_candidates
        return OnDemand(
            data.retriever,
            data.topk,
            spare,
            library,
            known,
            make_augmenter,
            model.group_size,
            rank,
            world_size,
            barrier,
        )

    def plan(self, model: PragModule, datamodule: PragDataModule, measure: bool = True) -> list[StagePlan]:
        """Say what is there and what is left to do: passages, time, memory and disk, stage by stage.

        Args:
            model: The experiment's.
            datamodule: The experiment's.
            measure: Do a batch of each stage to see how long it takes; what it makes is kept. A server of another's is
                never asked.

        Returns:
            The stages that the method has.

        Raises:
            InputError: if the LLM does not fit into memory.
        """
        dtype, device = DTYPES.get(str(self.precision), torch.float32), self.strategy.root_device
        if not hasattr(model, "llm"):
            size = parameter_bytes(model.model_name, dtype, trust_remote_code=model.trust_remote_code)
            check_memory(model.model_name, size, dtype, device)
        self._attach(model, datamodule)
        model.to(self.strategy.root_device)
        if uses_adapters(model.inference_method):
            model.open_library(create=True)  # `base_weight` is float32, whatever the context
        name = model.model_name
        with self.precision_plugin.forward_context():
            known = datamodule.augmented_passages(name)
            records = datamodule.planned_records(name)
            texts = list(dict.fromkeys(p.passage for record in records for p in record.passages))
            stages = [StagePlan("augment", "passages", len(texts), 0, 0.0)]
            if any(text not in known for text in texts):
                augmenter = self._augmenter(model, datamodule, datamodule.augment_folder(name))
                stages = [plan_augment(augmenter, texts, known, measure=measure and datamodule.chat is None)]
            if uses_adapters(model.inference_method):
                library, augmented = model.open_library(create=True), [known[text] for text in texts if text in known]
                stages.append(plan_fit(library, augmented, stages[0].todo, model.group_size, measure=measure))
            records = [replace(r, passages=tuple(known.get(p.passage, p) for p in r.passages)) for r in records]
            answerer = model.make_answerer()
            answered = model.answered_before(answerer)
            stages.append(plan_test(answerer, records, datamodule.batch_size, answered, measure=measure))
        passages = sum(len(record.passages) for record in records)
        print_plan(f"{len(records)} questions, {passages} passages, {len(texts)} of them distinct", stages)
        return stages

    def check(self, model: PragModule, datamodule: PragDataModule, delete: bool = False) -> None:
        """Look at every adapter of the experiment, and name those that are damaged, missing or out of date.

        Args:
            model: The experiment's.
            datamodule: The experiment's.
            delete: Delete the damaged ones, so that `prag fit` makes them anew.
        """
        self._attach(model, datamodule)
        check_adapters(model.open_library(create=False), datamodule.records(model.model_name), delete=delete)

    def _attach(self, model: PragModule, data: PragDataModule) -> None:
        """Let model and data know this trainer, and load the LLM, outside of Lightning's loops."""
        self.strategy.setup_environment()
        self.datamodule = data
        model.trainer = data.trainer = self
        model.configure_model()

    def export(
        self,
        model: PragModule,
        datamodule: PragDataModule,
        out: str,
        test_ids: list[int] | None = None,
        passages: list[int | str] | None = None,
        merged: bool = True,
        rank: int | None = None,
        push_to_hub: str | None = None,
        hub_private_repo: bool = True,
    ) -> list[Path]:
        """Write adapters as PEFT directories: merged for each question, `{out}/{split}/{test_id}`, or for a set of
        passages, `{out}/merged`; or each passage's own.

        Args:
            model: Says how they were trained and are merged.
            datamodule: The questions, or the corpus.
            out: A folder; what is there already is left alone.
            test_ids: Of the questions; unset means all.
            passages: Ids of passages of the corpus, in place of questions; adapters that are missing are made.
            merged: Make one adapter of several; else `{out}/{split}/data_{test_id}/passage_{pid}` or
                `{out}/passage_{id}`.
            rank: Fill adapters up to this rank with zeros, for serving engines that take 8, 16, … only.
            push_to_hub: A repository of the Hugging Face hub to put them into as well, such as me/my-adapters.
            hub_private_repo: Whether that is private, if it has to be made.
        """
        if push_to_hub is not None:
            check_hub(push_to_hub)
        if rank is not None and rank < 1:
            raise InputError(f"rank is {rank}", where="--rank", hint="Give 1 or more")
        self._attach(model, datamodule)
        adapters = Adapters(model.open_library(create=passages is not None), model.merge)
        exporter = Exporter(adapters, Path(out), rank)
        if passages is None:
            records = datamodule.records(model.model_name)
            written = exporter.of_questions(records, test_ids, merged=merged, scores=self._scores(model, datamodule))
        else:
            named = named_passages(datamodule.corpus, [str(key) for key in passages])
            model.to(self.strategy.root_device)
            with self.precision_plugin.forward_context():
                ready = self.on_demand(model, datamodule, adapters=True).provide([passage.text for passage in named])
            written = exporter.of_passages({p.id: a for p, a in zip(named, ready, strict=True)}, merged=merged)
        paths = []
        for path in written:
            print(path)
            paths.append(path)
        if push_to_hub is not None:
            print(push(push_to_hub, Path(out), paths, private=hub_private_repo))
        return paths

    def _scores(self, model: PragModule, data: PragDataModule) -> Callable[[AugmentedQuestion], Sequence[float]]:
        """What gives the scores of a question's passages in retrieval, if the merge takes them."""
        if model.merge != "score":
            return lambda _: ()
        return lambda record: data.scores([record], [record.passages])[0]

    def report(self, model: PragModule, datamodule: PragDataModule, out: str | None = None) -> list[Path]:
        """Print all results, and write them as a page with intervals, the paper's numbers, comparisons and costs.

        Args:
            model: Says where results are.
            datamodule: Of no matter here: all data sets are reported.
            out: A folder for report.html and report.md; unset means beside the results.
        """
        from prag_lightning.report.write import report

        paths = report(model.output_root, model.output_root if out is None else Path(out))
        for path in paths:
            print(path)
        return paths
