"""The precision that the LLM runs in: `trainer.precision`. All that is trained or measured stays in float32."""

from __future__ import annotations

from typing import Any, cast

from lightning import Trainer
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision, Precision

from prag_lightning.errors import InputError

PRECISIONS = ("32-true", "bf16-true", "bf16-mixed", "16-true", "16-mixed", "64-true")


class LLMPrecision(Precision):
    """The LLM alone is of the trainer's precision: it is loaded so.

    Lightning's own plugins convert the batch, which here holds passages and questions, and change PyTorch's default
    dtype, which would take adapters, losses and metrics with it.

    Args:
        precision: Its name.
    """

    def __init__(self, precision: str) -> None:
        self.precision = cast(Any, precision)


def check_precision(asked: object) -> None:
    """Look whether a precision is one that the LLM can run in.

    Raises:
        InputError: if it is not.
    """
    if str(asked).startswith("transformer-engine"):
        raise InputError(
            f"precision {asked!r} is not supported", where="trainer.precision", hint=f"Take {', '.join(PRECISIONS)}"
        )


def use_llm_precision(trainer: Trainer, asked: object) -> None:
    """Let a trainer's precision be that of the LLM alone.

    Raises:
        InputError: if its device has no such precision.
    """
    plugin, device = trainer.precision_plugin, trainer.strategy.root_device
    if str(asked) in ("16", "16-mixed") and plugin.precision != "16-mixed":
        raise InputError(
            f"precision '16-mixed' needs a GPU, and this runs on {device.type}",
            where="trainer.precision",
            hint="Take bf16-mixed or 32-true",
        )
    if plugin.precision == "64-true" and device.type == "mps":
        raise InputError("precision '64-true' does not exist on mps", where="trainer.precision", hint="Take 32-true")
    if isinstance(plugin, HalfPrecision | DoublePrecision):
        trainer.strategy.precision_plugin = LLMPrecision(plugin.precision)
