"""Packages that libraries import wherever they are installed, though hardly a command needs them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, DistributionFinder
from types import ModuleType
from typing import Any


@contextmanager
def hidden(*packages: str) -> Iterator[None]:
    """Let what is imported within behave as if packages were not installed; afterwards they can be imported.

    torchmetrics imports matplotlib and scipy.signal if they are there, which a command would wait for longer than for
    many an answer.
    """
    before = list(sys.meta_path)
    sys.meta_path[:] = [_Without(packages) if finder is PathFinder else finder for finder in before]
    try:
        yield
    finally:
        sys.meta_path[:] = [PathFinder if isinstance(finder, _Without) else finder for finder in sys.meta_path]


class _Without:
    """Python's finder of installed modules, blind to some packages."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = packages

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As `PathFinder`'s."""
        return None if name in self.packages else PathFinder.find_spec(name, path, target)

    def find_distributions(self, context: Any = DistributionFinder.Context()) -> Iterable[Distribution]:  # noqa: B008
        """As `PathFinder`'s."""
        return () if context.name in self.packages else PathFinder.find_distributions(context)
