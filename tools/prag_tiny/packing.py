"""Training rows of one fixed length, in which prompts that begin alike are computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PROMPT_WEIGHT = 0.05
"""Weight of a prompt token's loss: made-up names cannot be predicted, but prose can."""
NOTHING = -1
"""Tree of the places of a row that hold nothing."""


@dataclass(frozen=True)
class Example:
    """A prompt and the reply that is to be learnt.

    Args:
        prompt: Its tokens.
        reply: The tokens that are to follow.
        weight: Of each of the reply's tokens in the loss.
        copied_from: For the reply's first tokens, the places in the prompt that each is to be copied from, if any.
    """

    prompt: list[int]
    reply: list[int]
    weight: float
    copied_from: Sequence[Sequence[int]] = ()


@dataclass
class Tree:
    """Examples whose prompts share their beginning: the trunk stands once, each example's rest is a branch.

    A branch sees the trunk and itself, so every token is computed as if its example stood alone.
    """

    ids: list[int]
    positions: list[int]
    branches: list[int]
    targets: list[int]
    weights: list[float]
    copied_from: dict[int, list[int]]

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Tree:
        """Find the trunk and lay out the branches behind it."""
        trunk = _common_beginning([example.prompt[:-1] for example in examples])
        length = len(trunk)
        tree = cls(
            list(trunk), list(range(length)), [0] * length, [*trunk[1:], 0], [PROMPT_WEIGHT] * (length - 1) + [0.0], {}
        )
        for number, example in enumerate(examples, 1):
            beside = len(tree.ids) - length
            for step, places in enumerate(example.copied_from):
                if places:
                    asking = beside + len(example.prompt) - 1 + step
                    tree.copied_from[asking] = [place + beside * (place >= length) for place in places]
            branch = [*example.prompt[length:], *example.reply]
            prompt_steps = len(branch) - len(example.reply) - 1
            tree.ids += branch
            tree.positions += range(length, length + len(branch))
            tree.branches += [number] * len(branch)
            tree.targets += [*branch[1:], 0]
            tree.weights += [PROMPT_WEIGHT] * prompt_steps + [example.weight] * len(example.reply) + [0.0]
        return tree


@dataclass(frozen=True)
class Batch:
    """Rows of trees: `ids`, `positions`, `targets` and `weights` are `[N, T]`, `mask` (may see) is `[N, 1, T, T]` and
    `copied_from` (should look at, if at anything) is `[N, T, T]`."""

    ids: Tensor
    positions: Tensor
    targets: Tensor
    weights: Tensor
    mask: Tensor
    copied_from: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        return Batch(*(tensor.to(device) for tensor in vars(self).values()))


def pack(trees: Sequence[Tree], rows: int, length: int) -> tuple[Batch, list[Tree]]:
    """Fill `rows` of `length` tokens, longest trees first; also gives the trees that found no room."""
    filled: list[list[Tree]] = [[] for _ in range(rows)]
    room = [length] * rows
    left = []
    for tree in sorted(trees, key=lambda tree: -len(tree.ids)):
        row = next((row for row in range(rows) if room[row] >= len(tree.ids)), None)
        if row is None:
            left.append(tree)
        else:
            filled[row].append(tree)
            room[row] -= len(tree.ids)
    ids, positions, targets, branches, numbers = (torch.zeros(rows, length, dtype=torch.long) for _ in range(5))
    weights = torch.zeros(rows, length)
    copied_from = torch.zeros(rows, length, length, dtype=torch.bool)
    numbers.fill_(NOTHING)
    for row, held in enumerate(filled):
        start = 0
        for number, tree in enumerate(held):
            place = slice(start, start + len(tree.ids))
            ids[row, place] = torch.tensor(tree.ids)
            positions[row, place] = torch.tensor(tree.positions)
            targets[row, place] = torch.tensor(tree.targets)
            branches[row, place] = torch.tensor(tree.branches)
            weights[row, place] = torch.tensor(tree.weights)
            numbers[row, place] = number
            for asking, places in tree.copied_from.items():
                copied_from[row, start + asking, [start + each for each in places]] = True
            start += len(tree.ids)
    return Batch(ids, positions, targets, weights, _mask(numbers, branches), copied_from), left


def _common_beginning(prompts: Sequence[list[int]]) -> list[int]:
    shortest = min(prompts, key=len)
    differing = (i for i, token in enumerate(shortest) if any(prompt[i] != token for prompt in prompts))
    return shortest[: next(differing, len(shortest))]


def _mask(trees: Tensor, branches: Tensor) -> Tensor:
    """Which token may see which: earlier ones of its tree, if they are on its branch or in the trunk."""
    earlier = torch.ones(trees.shape[1], trees.shape[1], dtype=torch.bool).tril()
    same_tree = trees[:, :, None] == trees[:, None, :]
    same_branch = (branches[:, :, None] == branches[:, None, :]) | (branches[:, None, :] == 0)
    return (earlier & same_tree & same_branch)[:, None]
