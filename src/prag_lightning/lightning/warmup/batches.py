"""Batches of an ordinary training run that can be taken up in the middle of an epoch."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from prag_lightning.training.examples import Example


class ShuffledBatches(Sampler[list[int]]):
    """Each epoch's examples in a new order that `seed` decides, in batches; this process's share of them.

    As in PyTorch's own sampler for several processes, the last ones are filled up with examples from the start, so that
    every process has as many.

    Args:
        examples: How many there are.
        batch_size: Of one process.
        seed: Decides the orders.
        trainer: Says which epoch it is, and which of how many processes this is.
    """

    def __init__(self, examples: int, batch_size: int, seed: int, trainer: Trainer) -> None:
        self.examples, self.batch_size, self.seed, self.trainer = examples, batch_size, seed, trainer
        self.trained = 0
        """Batches that the next epoch leaves out, since they have been trained before."""

    def __len__(self) -> int:
        """Batches of an epoch, whole or not."""
        return ceil(ceil(self.examples / self.trainer.world_size) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """The batches that are left of the epoch."""
        order = list(range(self.examples))
        random.Random(f"{self.seed} {self.trainer.current_epoch}").shuffle(order)
        processes = self.trainer.world_size
        order += order[: -len(order) % processes]
        share = order[self.trainer.global_rank :: processes]
        batches = [share[i : i + self.batch_size] for i in range(0, len(share), self.batch_size)]
        left, self.trained = batches[self.trained :], 0
        yield from left


class ResumableLoader(DataLoader[Any]):
    """A loader whose place within an epoch goes into Lightning's checkpoints.

    Args:
        examples: What is learnt.
        batches: Their order.
        pad_id: Fills rows.
    """

    def __init__(self, examples: Sequence[Example], batches: ShuffledBatches, pad_id: int) -> None:
        super().__init__(
            examples,  # type: ignore[arg-type]
            batch_sampler=batches,
            collate_fn=lambda chosen: collate(chosen, pad_id),
        )
        self.batches = batches

    def state_dict(self) -> dict[str, int]:
        """How many batches of this epoch have been trained: fewer than have been read, since one is read ahead."""
        return {"trained": self.batches.trainer.fit_loop.epoch_loop.batch_progress.current.ready}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches that have been trained; after the last of an epoch there are none to leave out."""
        self.batches.trained = state["trained"] % len(self.batches)


def collate(examples: Sequence[Example], pad_id: int) -> tuple[Tensor, Tensor]:
    """Ids `[N, T]`, right-padded to the longest, and which of the tokens after the first are learnt, `[N, T - 1]`.

    Padding needs no attention mask: it stands right of all that is read.
    """
    longest = max(len(example.input_ids) for example in examples)
    ids = torch.full((len(examples), longest), pad_id)
    is_target = torch.zeros(len(examples), longest - 1, dtype=torch.bool)
    for row, example in enumerate(examples):
        ids[row, : len(example.input_ids)] = torch.tensor(example.input_ids)
        is_target[row, example.first_target - 1 : len(example.input_ids) - 1] = True
    return ids, is_target
