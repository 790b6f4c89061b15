"""Timing: what takes turns with what, the spread of rounds, and the rate that a machine can reach."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
import transformers

Timer = Callable[[], object]
PUBLISHED = "as published"
WIDTH, PRODUCTS = 2048, 40
"""Of the matrices whose product is what a machine can do at most, and how many such products a round."""
SLOW_BFLOAT16 = 0.25
"""Of float32's rate: a CPU without instructions for bfloat16 would take hours, and nobody would ask it to."""


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of some seconds."""

    seconds: float
    least: float
    most: float

    @classmethod
    def of(cls, rounds: Sequence[float], pieces: int = 1) -> Spread:
        """Of rounds that each did so many pieces."""
        each = [value / pieces for value in rounds]
        return cls(median(each), min(each), max(each))


def timed(work: Timer) -> float:
    """Seconds that something takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def product(dtype: torch.dtype, width: int = WIDTH, times: int = PRODUCTS) -> Timer:
    """So many products of two square matrices."""
    left, right = torch.randn(width, width).to(dtype), torch.randn(width, width).to(dtype)

    def run() -> None:
        for _ in range(times):
            left @ right

    return run


def product_rate(spread: Spread) -> float:
    """Floating-point operations a second of products."""
    return 2 * WIDTH**3 / spread.seconds


def precisions() -> list[torch.dtype]:
    """float32, and bfloat16 where the machine is made for it."""
    float32, bfloat16 = (min(timed(product(dtype, 128)) for _ in range(3)) for dtype in (torch.float32, torch.bfloat16))
    return [torch.float32, torch.bfloat16] if SLOW_BFLOAT16 * bfloat16 < float32 else [torch.float32]


def alternate(work: dict[str, tuple[Timer, int]], rounds: int) -> dict[str, Spread]:
    """Do every piece of work once a round, after one round that does not count, and give seconds a piece."""
    seconds: dict[str, list[float]] = {how: [] for how in work}
    for number in range(rounds + 1):
        for how, (run, _) in work.items():
            if number:
                seconds[how].append(timed(run))
            elif how != PUBLISHED:
                run()
    return {how: Spread.of(taken, work[how][1]) for how, taken in seconds.items()}


def machine() -> str:
    """What it was measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "a CPU")
    return (
        f"{name}, {torch.get_num_threads()} threads of {os.cpu_count()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )
