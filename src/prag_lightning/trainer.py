"""Lightning's Trainer with the method's stages, and processes that share nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.strategies import DDPStrategy

from prag_lightning.augment import ChatAugmenter, Failures, JournalledAugmenter, LLMAugmenter, SharedAugmenter
from prag_lightning.augment.files import augment_dataset
from prag_lightning.callbacks import CostRecord, PragProgressBar
from prag_lightning.costs import Cost, device_name, record_cost
from prag_lightning.datamodule import PragDataModule
from prag_lightning.files import Journal
from prag_lightning.llm import load_llm
from prag_lightning.module import DTYPES, PragModule

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
        kwargs["callbacks"] = [*callbacks, CostRecord()]
        super().__init__(*args, **kwargs)
        if kwargs.get("strategy", "auto") in ("auto", "ddp") and type(self.strategy) is DDPStrategy:
            kwargs["strategy"] = IndependentProcesses()
            super().__init__(*args, **kwargs)

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

        def make_augmenter(folder: Path) -> SharedAugmenter:
            made.append(self._augmenter(model, datamodule, folder))
            return SharedAugmenter(made[0], self.global_rank, self.world_size, self.strategy.barrier)

        try:
            augment_dataset(datamodule, model.model_name, make_augmenter, write=self.is_global_zero)
        finally:
            device = "server" if datamodule.chat is not None else device_name(self.strategy.root_device)
            for augmenter in made:
                cost = Cost("augment", augmenter.passages, augmenter.seconds, device, self.world_size)
                record_cost(datamodule.augment_folder(model.model_name), cost)
        self.strategy.barrier()
        for augmenter in made:
            augmenter.failures.report()
        self.strategy.teardown()

    def _augmenter(self, model: PragModule, data: PragDataModule, folder: Path) -> JournalledAugmenter:
        journal = Journal(folder, self.global_rank)
        failures = Failures(folder / f"failed-replies-{self.global_rank}.jsonl")
        if data.chat is not None:
            name = data.chat.model or str(data.augment_model)
            return ChatAugmenter(data.chat, name, data.prompt_templates, data.augment_settings, journal, failures)
        llm = load_llm(
            data.augment_model or model.model_name,
            target_modules=model.target_modules,
            dtype=DTYPES.get(str(self.precision), torch.float32),
            device=self.strategy.root_device,
            trust_remote_code=model.trust_remote_code,
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

    def export(
        self, model: PragModule, datamodule: PragDataModule, out: str, test_ids: list[int] | None = None
    ) -> None:
        """Write the merged adapter of each question's passages as a PEFT directory, `{out}/{split}/{test_id}`.

        Args:
            model: Says how they were trained and are merged.
            datamodule: The questions.
            out: A folder; what is there already is left alone.
            test_ids: Of the questions; unset means all.
        """
        self.datamodule = datamodule
        model.trainer = datamodule.trainer = self
        for path in model.export(Path(out), test_ids):
            print(path)

    def report(self, model: PragModule, datamodule: PragDataModule, out: str | None = None) -> None:
        """Print all results, and write them as a page with intervals, the paper's numbers, comparisons and costs.

        Args:
            model: Says where results are.
            datamodule: Of no matter here: all data sets are reported.
            out: A folder for report.html and report.md; unset means beside the results.
        """
        from prag_lightning.report.write import report

        for path in report(model.output_root, model.output_root if out is None else Path(out)):
            print(path)
