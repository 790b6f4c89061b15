"""Where an LLM computes, and how precisely."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from prag_lightning.errors import InputError
from prag_lightning.llm.loading import DTYPES

_CPU = torch.device("cpu")
_MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
_PRECISIONS = ("32-true", *DTYPES, *_MIXED)
_SHORT = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed", "16": "16-mixed"}


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
    def choose(cls, accelerator: str = "auto", index: int = 0, precision: str = "32-true") -> Compute:
        """One device and a precision, by the names that Lightning's trainer has for them.

        Args:
            accelerator: cpu, gpu, cuda, mps, or auto: the best there is.
            index: Which of several GPUs.
            precision: 32-true, bf16-true, 16-true, 64-true, bf16-mixed or 16-mixed.

        Raises:
            InputError: if there is no such device, or it cannot compute so.
        """
        precision = _SHORT.get(precision, precision)
        if precision not in _PRECISIONS:
            raise InputError(
                f"the precision is {precision!r}",
                where="trainer.precision",
                hint=f"Give one of {', '.join(_PRECISIONS)}",
            )
        device = _device(accelerator, index)
        if (precision, device.type) in (("16-mixed", "cpu"), ("64-true", "mps")):
            raise InputError(
                f"precision {precision!r} does not exist on {device.type}",
                where="trainer.precision",
                hint="Take bf16-mixed or 32-true",
            )
        if precision not in _MIXED:
            return cls(device, precision)
        dtype = _MIXED[precision]
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
