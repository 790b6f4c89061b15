"""The precision that the LLM runs in: `trainer.precision`. All that is trained or measured stays in float32."""

from __future__ import annotations

from typing import Any, cast

from lightning import Trainer
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision, Precision

from prag_lightning.llm.compute import check_precision, precision_name


class LLMPrecision(Precision):
    """The LLM alone is of the trainer's precision: it is loaded so.

    Lightning's own plugins convert the batch, which here holds passages and questions, and change PyTorch's default
    dtype, which would take adapters, losses and metrics with it.

    Args:
        precision: Its name.
    """

    def __init__(self, precision: str) -> None:
        self.precision = cast(Any, precision)


def use_llm_precision(trainer: Trainer, asked: object) -> None:
    """Let a trainer's precision be that of the LLM alone.

    Raises:
        InputError: if its device has no such precision.
    """
    plugin, device = trainer.precision_plugin, trainer.strategy.root_device
    check_precision(precision_name(plugin.precision if asked is None else asked), device)
    if isinstance(plugin, HalfPrecision | DoublePrecision):
        trainer.strategy.precision_plugin = LLMPrecision(plugin.precision)
