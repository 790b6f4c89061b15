"""What every retriever does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from prag_lightning.records import Passage


@dataclass(frozen=True)
class Hit:
    """A passage that was found, and its score: higher is better, comparable within one query only."""

    passage: Passage
    score: float


@runtime_checkable
class Retriever(Protocol):
    """Anything that finds passages."""

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Up to `k` passages for each query, best first, no text twice; none for a query that shares no word with
        any."""
        ...
