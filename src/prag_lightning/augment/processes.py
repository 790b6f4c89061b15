"""Augmenting in several processes, each with its share of the passages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prag_lightning.augment.base import JournalledAugmenter
from prag_lightning.processes import Processes
from prag_lightning.records import AugmentedPassage


class SharedAugmenter:
    """One of several processes' augmenters: all of them are asked for the same passages, and all give all of them.

    Each writes about its share, in a journal of its own in the same folder; what the others wrote is read there. So a
    process that dies leaves what it finished.

    Args:
        own: This process's augmenter.
        processes: All of them.
    """

    def __init__(self, own: JournalledAugmenter, processes: Processes) -> None:
        self.own, self.processes = own, processes

    def augment(self, passages: Sequence[str]) -> Iterator[tuple[str, AugmentedPassage | None]]:
        """See `Augmenter`. Passages of like length go to different processes."""
        ordered = sorted(dict.fromkeys(passages), key=lambda passage: (len(passage), passage))
        written = dict(self.own.augment(self.processes.share(ordered)))
        self.processes.barrier()
        self.own.journal.reload()
        for passage in passages:
            if passage not in written:
                entry = self.own.journal.get(self.own.key(passage))
                written[passage] = None if entry is None else self.own.from_journal(entry)
        yield from written.items()
