"""Where an LLM computes, and how precisely."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from prag_lightning.errors import InputError
from prag_lightning.llm.loading import DTYPES

_CPU = torch.device("cpu")
MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""What autocast computes in, by the trainer's precision."""
PRECISIONS = ("32-true", *DTYPES, *MIXED)
_OTHER_NAMES = {"None": "32-true", "32": "32-true", "64": "64-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def precision_name(asked: object) -> str:
    """The name of a precision, of those that Lightning's trainer has for it.

    Raises:
        InputError: if the LLM cannot run in it.
    """
    name = _OTHER_NAMES.get(str(asked), str(asked))
    if name not in PRECISIONS:
        raise InputError(
            f"precision {asked!r} is not supported", where="trainer.precision", hint=f"Take {', '.join(PRECISIONS)}"
        )
    return name


def check_precision(precision: str, device: torch.device) -> None:
    """Look whether a device has a precision.

    Raises:
        InputError: if it has not.
    """
    if precision == "16-mixed" and device.type == "cpu":
        raise InputError(
            f"precision '16-mixed' needs a GPU, and this runs on {device.type}",
            where="trainer.precision",
            hint="Take bf16-mixed or 32-true",
        )
    if precision == "64-true" and device.type == "mps":
        raise InputError("precision '64-true' does not exist on mps", where="trainer.precision", hint="Take 32-true")


@dataclass(frozen=True)
class Compute:
    """A device and a precision.

    Args:
        device: Where the LLM is.
        precision: By the name that Lightning's trainer has for it.
        autocast: Makes the context that the LLM works in, for mixed precision.
    """

    device: torch.device = _CPU
    precision: str = "32-true"
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext

    @property
    def dtype(self) -> torch.dtype:
        """Of the LLM's parameters."""
        return DTYPES.get(self.precision, torch.float32)

    @classmethod
    def choose(cls, accelerator: str = "auto", index: int = 0, precision: object = None) -> Compute:
        """One device and a precision, by the names that Lightning's trainer has for them.

        Args:
            accelerator: cpu, gpu, cuda, mps, or auto: the best there is.
            index: Which of several GPUs.
            precision: One of `PRECISIONS`; unset means 32-true.

        Raises:
            InputError: if there is no such device, or it cannot compute so.
        """
        precision = precision_name(precision)
        device = _device(accelerator, index)
        check_precision(precision, device)
        if precision not in MIXED:
            return cls(device, precision)
        dtype = MIXED[precision]
        return cls(device, precision, lambda: torch.autocast(device.type, dtype, cache_enabled=False))


def _device(accelerator: str, index: int) -> torch.device:
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if accelerator in ("auto", "gpu"):
        best = next((kind for kind in ("cuda", "mps") if there[kind]), "cpu" if accelerator == "auto" else "")
    else:
        best = accelerator if there.get(accelerator) else ""
    if not best or (best == "cuda" and index >= torch.cuda.device_count()):
        found = ", ".join(kind for kind, present in there.items() if present)
        number = f" {index}" if best else ""
        raise InputError(
            f"there is no device {accelerator!r}{number} here",
            where="trainer.devices" if best else "trainer.accelerator",
            hint=f"Set another, or leave it out: there is {found}",
        )
    return torch.device(best, index) if best == "cuda" else torch.device(best)
