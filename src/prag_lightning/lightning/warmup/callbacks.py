"""Progress of a warm-up, and the point that an interrupted one goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from prag_lightning.files import remove_stale_temp, temp_path
from prag_lightning.lightning.callbacks import PragProgressBar
from prag_lightning.progress import Progress


class WarmupProgressBar(PragProgressBar):
    """Lightning's progress in batches that are left over all epochs."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting batches."""
        epochs = (trainer.max_epochs or 1) - trainer.current_epoch
        trained = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if self.is_enabled:
            total = int(epochs * trainer.num_training_batches) - trained
            self._progress = Progress("warm up", total, "batches")

    def _advance(self, batch: Any) -> None:
        if self._progress is not None:
            self._progress.advance(1)


class ResumePoint(Callback):
    """Keeps the state of training every so many steps, whole or not at all.

    Args:
        path: The file.
        every_n_steps: Optimiser steps between.
    """

    def __init__(self, path: Path, every_n_steps: int) -> None:
        self.path, self.every_n_steps = path, every_n_steps
        self._kept_at = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin where training does."""
        self._kept_at = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the state, when its turn has come; an epoch's last batch begins the next one."""
        step = trainer.global_step
        if step == self._kept_at or step % self.every_n_steps or trainer.is_last_batch:
            return
        self._kept_at = step
        remove_stale_temp(self.path.parent, self.path.name)
        beside = temp_path(self.path)
        trainer.save_checkpoint(beside)
        if trainer.is_global_zero:
            beside.replace(self.path)
