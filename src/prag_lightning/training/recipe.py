"""How an adapter is trained, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

from prag_lightning.lora.names import LoraA

RECIPE_VERSION = 2
"""Of what a recipe's settings mean; adapters of another version are not used."""

T = TypeVar("T")


@dataclass(frozen=True)
class TrainingRecipe:
    """How an adapter is trained; the defaults are the paper's (section 4.1).

    Args:
        lora_rank: Rank r of an adapter.
        lora_alpha: PEFT's alpha: the update is scaled by alpha / r.
        learning_rate: Of AdamW with PyTorch's betas 0.9 and 0.999, eps 1e-8 and weight decay 0.01.
        num_train_epochs: How often each example is seen.
        per_device_train_batch_size: Examples of one passage in a step.
        lora_a: See `LoraA`.
        null_space: A reads no more than this share of the energy of general text; unset means all.
    """

    lora_rank: int = 2
    lora_alpha: int = 32
    learning_rate: float = 3e-4
    num_train_epochs: int = 1
    per_device_train_batch_size: int = 1
    lora_a: LoraA = "trained"
    null_space: float | None = None

    @property
    def scaling(self) -> float:
        """The factor of an adapter's update."""
        return self.lora_alpha / self.lora_rank

    def steps(self, examples: int) -> int:
        """Optimiser steps that a passage with so many examples takes."""
        return self.num_train_epochs * ceil(examples / self.per_device_train_batch_size)

    def step_examples(self, examples: Sequence[T], step: int) -> Sequence[T]:
        """The examples of one passage's step, in fixed order, epoch after epoch; the last of an epoch may have
        fewer."""
        size = self.per_device_train_batch_size
        first = step % ceil(len(examples) / size) * size
        return examples[first : first + size]
