"""Progress of long work: a bar with rate and time left on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0
_is_shown = ContextVar("progress", default=True)


@contextmanager
def without_progress(hidden: bool = True) -> Iterator[None]:
    """Let long work show nothing, if `hidden`."""
    token = _is_shown.set(_is_shown.get() and not hidden)
    try:
        yield
    finally:
        _is_shown.reset(token)


def has_bars() -> bool:
    """Whether long work shows bars, which is on a terminal."""
    return _is_shown.get() and sys.stderr.isatty()


class Progress:
    """Counts pieces of work that are done; a context manager.

    Args:
        description: What is being done.
        total: How many pieces there are.
        unit: What a piece is called, in the plural.
    """

    def __init__(self, description: str, total: int, unit: str) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = 0
        self._started = self._last_line = time.monotonic()
        self._is_shown = _is_shown.get()
        self._bar = tqdm(desc=description, total=total, unit=f" {unit}", smoothing=0.05) if has_bars() else None

    def advance(self, pieces: int) -> None:
        """Count `pieces` more as done."""
        self.done += pieces
        if self._bar is not None:
            self._bar.update(pieces)
        elif time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES and self.done < self.total:
            self._print_line()

    def close(self) -> None:
        """End the bar, or say in a last line what was done."""
        if self._bar is not None:
            self._bar.close()
        else:
            self._print_line()

    def _print_line(self) -> None:
        if not self._is_shown:
            return
        self._last_line = time.monotonic()
        seconds = self._last_line - self._started
        rate = self.done / max(seconds, 1e-9)
        done = f"{self.done}/{self.total} {self.unit} in {seconds:.1f} s, {rate:.1f} {self.unit}/s"
        left = f", {(self.total - self.done) / rate:.0f} s left" if 0 < self.done < self.total else ""
        print(f"{self.description}: {done}{left}", file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
