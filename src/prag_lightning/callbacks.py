"""Lightning's progress, told in passages and questions."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

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

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count a group."""
        self._advance(batch)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the bar."""
        self._close()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting questions."""
        self._start("answer", trainer.test_dataloaders, "questions")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count a batch of questions."""
        self._advance(batch)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the bar."""
        self._close()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting questions."""
        self._start("answer", trainer.predict_dataloaders, "questions")

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count a batch of questions."""
        self._advance(batch)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End the bar, leaving what was done readable."""
        self._close()
