"""Groups of passages that are trained together: which, and how many tokens a step of theirs may hold."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol, TypeVar

import torch

from prag_lightning.llm.devices import PeakMemory, free_memory
from prag_lightning.training.encoder import Encoder, PassageExamples
from prag_lightning.training.recipe import TrainingRecipe

SMALLEST = 1024
"""Tokens of the first group that is tried."""
WORTH_DOUBLING = 1.05
"""How many times faster twice as large a group must be."""
_SHARE_OF_MEMORY = 0.8


def fitting_group_tokens(encoder: Encoder, passage: PassageExamples) -> int:
    """Double a group until it gains less than 5 per cent in speed, or the next would not fit into memory.

    Args:
        encoder: Its recipe decides how much of a passage is in a step.
        passage: Of the longest; the groups that are tried consist of copies of it.

    Returns:
        Tokens, padding included; at least `SMALLEST`, whether they fit or not.
    """
    size = encoder.recipe.per_device_train_batch_size
    one_step = Encoder(
        encoder.llm, encoder.base_weight, replace(encoder.recipe, num_train_epochs=1), encoder.null_space
    )
    passage = PassageExamples(passage.key, passage.examples[:size])
    one_step.encode([passage])
    best, rate, tokens = SMALLEST, 0.0, SMALLEST
    while True:
        copies = max(1, tokens // (passage.longest * size))
        memory = PeakMemory(encoder.llm.device)
        started = time.perf_counter()
        try:
            one_step.encode([passage] * copies)
        except torch.OutOfMemoryError:
            return best
        faster = copies * passage.longest * size / (time.perf_counter() - started)
        if faster < WORTH_DOUBLING * rate:
            return best
        best, rate = tokens, max(rate, faster)
        if not _fits_doubled(memory):
            return best
        tokens *= 2


def _fits_doubled(memory: PeakMemory) -> bool:
    """Whether there is room for as much again on top of twice what the work took."""
    return 2 * memory.taken() < _SHARE_OF_MEMORY * free_memory(memory.device)


class Groupable(Protocol):
    """What forming groups needs to know of a passage: see `PassageExamples`."""

    @property
    def key(self) -> str:
        """The key of its adapter."""

    @property
    def longest(self) -> int:
        """Tokens of its longest example."""

    @property
    def count(self) -> int:
        """How many examples it has."""


P = TypeVar("P", bound=Groupable)


def group_passages(passages: Iterable[P], recipe: TrainingRecipe, group_tokens: int) -> list[list[P]]:
    """Split passages into groups of like length that are trained together.

    Args:
        passages: In any order.
        recipe: Its batch size counts towards a group's tokens.
        group_tokens: Most tokens, padding included, that a group's step may hold; a longer passage is a group of its
            own.

    Returns:
        Groups, the longest passages first, so that a lack of memory shows at once; within one length, most steps
        first. Where all passages of some of these groups are taken away, the others give the same groups.
    """
    ordered = sorted(passages, key=lambda p: (p.longest, recipe.steps(p.count), p.key), reverse=True)
    groups: list[list[P]] = []
    capacity = 0
    for passage in ordered:
        if not groups or len(groups[-1]) >= capacity:
            groups.append([])
            capacity = max(1, group_tokens // (passage.longest * recipe.per_device_train_batch_size))
        groups[-1].append(passage)
    return groups
