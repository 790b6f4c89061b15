"""Lightning's Trainer with the method's stages, and processes that share nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prag_lightning.augment import JournalledAugmenter, SharedAugmenter
from prag_lightning.augment.dataset import augment_dataset
from prag_lightning.costs import Cost, record_cost
from prag_lightning.errors import PragError
from prag_lightning.lightning.callbacks import CostRecord, PragProgressBar
from prag_lightning.lightning.datamodule import PragDataModule
from prag_lightning.lightning.module import NAMED_FAILURES, PragModule, pipeline_of
from prag_lightning.lightning.processes import IndependentProcesses
from prag_lightning.lightning.stage_trainer import StageTrainer
from prag_lightning.lightning.summaries import Summaries
from prag_lightning.llm.devices import device_name


class PragTrainer(StageTrainer):
    """A Trainer that also augments; see `lightning.Trainer` for its arguments."""

    progress_bar = PragProgressBar
    processes = IndependentProcesses
    own_callbacks = (CostRecord, Summaries)

    def augment(self, model: PragModule, datamodule: PragDataModule) -> None:
        """Let an LLM write a rewrite and QA pairs for the passages of each question.

        Each process writes about its share; the first one puts all together.

        Raises:
            PragError: naming the passages that could not be augmented, if questions have too few for it.
        """
        data, settings = datamodule.data, datamodule.settings
        made: list[JournalledAugmenter] = []
        short = 0

        def work() -> None:
            nonlocal short
            pipeline = pipeline_of(self, model.settings, data)

            def make_augmenter() -> SharedAugmenter:
                made.append(pipeline.augmenter())
                return pipeline.shared(made[0])

            try:
                short = augment_dataset(
                    data.augmentation(),
                    lambda texts, count: data.retriever.search(texts, count),
                    make_augmenter,
                    write=self.is_global_zero,
                )
            finally:
                device = "server" if settings.chat is not None else device_name(self.strategy.root_device)
                for augmenter in made:
                    cost = Cost("augment", augmenter.passages, augmenter.seconds, device, self.world_size)
                    record_cost(data.augment_folder, cost)

        self.in_processes(work)
        for augmenter in made:
            augmenter.failures.report()
            if augmenter.failures.skipped and self.is_global_zero:
                _tell_skipped(augmenter.failures.skipped, short, data.augment_folder)

    def fit(self, model: PragModule, datamodule: PragDataModule) -> None:  # type: ignore[override]
        """Encode the passages into adapters; as often as there are new ones."""
        self.fit_loop.epoch_progress.reset()  # or Lightning has done its one epoch, and would do nothing
        super().fit(model, datamodule=datamodule)

    def test(self, model: PragModule, datamodule: PragDataModule) -> Any:  # type: ignore[override]
        """Answer the questions and score the answers."""
        return super().test(model, datamodule=datamodule, verbose=False)

    def predict(self, model: PragModule, datamodule: PragDataModule) -> Any:  # type: ignore[override]
        """Answer questions that have no gold answers."""
        return super().predict(model, datamodule=datamodule, return_predictions=False)


def _tell_skipped(skipped: Mapping[str, str], short: int, folder: Path) -> None:
    """Say which passages the writer cannot take.

    Raises:
        PragError: instead, if questions have fewer passages than they should for it.
    """
    some = "; ".join(f"{text[:60]!r}: {reason}" for text, reason in list(skipped.items())[:NAMED_FAILURES])
    if short:
        raise PragError(
            f"{len(skipped)} passages could not be augmented, and {short} questions have too few for it: {some}",
            where=str(folder),
            hint="Cut the passages shorter, or raise data.augment.extra_candidates",
        )
    print(f"{len(skipped)} passages could not be augmented, the next best took their places: {some}", file=sys.stderr)
