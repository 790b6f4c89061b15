"""Progress of long work: a bar with rate and time left on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


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
        on_terminal = sys.stderr.isatty()
        self._bar = tqdm(desc=description, total=total, unit=f" {unit}", smoothing=0.05) if on_terminal else None

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
