"""Processes that share the work of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes that work on one experiment.

    Args:
        rank: This process's number.
        world_size: How many there are.
        barrier: Returns when all processes have called it.
        broadcast: Gives every process the first one's value.
    """

    rank: int = 0
    world_size: int = 1
    barrier: Callable[[], object] = lambda: None
    broadcast: Callable[[Any], Any] = lambda value: value

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Those that fall to this process: of neighbours one each."""
        return items[self.rank :: self.world_size]


ALONE = Processes()
"""A process that shares with nobody."""
