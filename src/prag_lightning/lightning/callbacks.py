"""What is told and kept of a run: its progress in passages and questions, and what encoding cost."""

from __future__ import annotations

import time
from collections.abc import Sized
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar

from prag_lightning.costs import Cost, record_cost
from prag_lightning.llm.devices import device_name
from prag_lightning.progress import Progress


class PragProgressBar(ProgressBar):
    """Lightning's progress in passages and questions rather than batches."""

    def __init__(self) -> None:
        super().__init__()
        self._progress: Progress | None = None
        self._enabled = True

    def disable(self) -> None:
        """Show nothing, on processes other than the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show progress."""
        self._enabled = True

    @property
    def is_enabled(self) -> bool:
        """Whether this process shows progress."""
        return self._enabled

    def _start(self, description: str, loaders: Any, unit: str) -> None:
        loaders = loaders if isinstance(loaders, list) else [loaders]
        total = sum(len(batch) for loader in loaders for batch in loader.dataset)
        if self._enabled and total:
            self._progress = Progress(description, total, unit)

    def _advance(self, batch: Sized) -> None:
        if self._progress is not None:
            self._progress.advance(len(batch))

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.close()
            self._progress = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting passages."""
        self._start("encode", trainer.train_dataloader, "passages")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting questions."""
        self._start("answer", trainer.test_dataloaders, "questions")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting questions."""
        self._start("answer", trainer.predict_dataloaders, "questions")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any, **__: Any
    ) -> None:
        """Count a group of passages, or a batch of questions."""
        self._advance(batch)

    on_test_batch_end = on_predict_batch_end = on_train_batch_end

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """End the bar, leaving what was done readable."""
        self._close()

    on_test_end = on_predict_end = on_exception = on_train_end


class CostRecord(Callback):
    """Appends what `fit` cost to the record beside the adapters, also when it is interrupted."""

    def __init__(self) -> None:
        self._passages, self._seconds, self._started = 0, 0.0, 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Look at the clock."""
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any, **__: Any
    ) -> None:
        """Count a group, whose adapters are stored by now."""
        self._passages += len(batch)
        self._seconds += time.perf_counter() - self._started

    def on_train_end(self, trainer: Trainer, pl_module: Any, *_: Any, **__: Any) -> None:
        """Write the line of what was done."""
        if self._passages:
            device = device_name(trainer.strategy.root_device)
            cost = Cost("fit", self._passages, self._seconds, device, trainer.world_size)
            record_cost(pl_module.pipeline.layout.adapters, cost)
        self._passages, self._seconds = 0, 0.0

    on_exception = on_train_end
