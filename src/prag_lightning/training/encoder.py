"""Passages into adapters: the method's training, for a whole group of passages at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from prag_lightning.llm.loading import LLM
from prag_lightning.lora.merge import stack
from prag_lightning.lora.null_space import NullSpace
from prag_lightning.lora.stack import LoraWeights
from prag_lightning.training.examples import Example
from prag_lightning.training.loss import HiddenAndHead, frozen_head_cross_entropy, hidden_and_head
from prag_lightning.training.recipe import TrainingRecipe


@dataclass(frozen=True)
class PassageExamples:
    """A passage to be encoded: the key its adapter is stored under, and its training examples, at least one."""

    key: str
    examples: tuple[Example, ...]

    @property
    def longest(self) -> int:
        """Tokens of its longest example."""
        return max(len(example.input_ids) for example in self.examples)

    @property
    def count(self) -> int:
        """How many examples it has."""
        return len(self.examples)


@dataclass(frozen=True)
class EncodedPassage:
    """An adapter and how its training went.

    Args:
        key: Of the passage.
        weights: A `[r, d_in]` and B `[d_out, r]` a module, float32 on the CPU.
        losses: Mean token loss of each step, in nats.
    """

    key: str
    weights: LoraWeights
    losses: tuple[float, ...]


class Encoder:
    """Trains the adapters of groups of passages over one frozen LLM.

    Args:
        llm: Carries the group's adapters while they are trained.
        base_weight: The adapter that each passage starts from.
        recipe: How it is trained.
        null_space: Where A stays, after each step; `base_weight` is there already.
    """

    def __init__(
        self, llm: LLM, base_weight: LoraWeights, recipe: TrainingRecipe, null_space: NullSpace | None = None
    ) -> None:
        self.llm, self.base_weight, self.recipe = llm, base_weight, recipe
        self.null_space = None if null_space is None else null_space.to(llm.device)
        self._hidden_and_head = hidden_and_head(llm)

    @torch.inference_mode(False)
    def encode(
        self, group: Sequence[PassageExamples], on_step: Callable[[int, int], None] | None = None
    ) -> list[EncodedPassage]:
        """Train one adapter a passage, all at once.

        The loss is the sum of each passage's own mean over its own tokens, so gradients do not mix, and AdamW works
        element by element: the adapters are those of training one passage after the other. A passage with fewer steps
        than others leaves the stack when it has finished, so weight decay and momentum no longer touch it.

        Args:
            group: Passages; see `group_passages`.
            on_step: Called after each step with the steps done and all steps.

        Returns:
            In the order of `group`.
        """
        order = sorted(range(len(group)), key=lambda i: self.recipe.steps(len(group[i].examples)), reverse=True)
        passages = [group[i] for i in order]
        teacher_hidden = self._teacher_hidden_states(passages)
        weights = stack([self.base_weight] * len(passages))
        training = _StackTraining(self.llm, weights, self.recipe, teacher_hidden, self.null_space)
        steps = [self.recipe.steps(len(passage.examples)) for passage in passages]
        losses: list[list[float]] = [[] for _ in passages]
        try:
            for step in range(steps[0]):
                active = sum(step < count for count in steps)
                batch = [self.recipe.step_examples(passage.examples, step) for passage in passages[:active]]
                step_losses = training.step(batch, self._hidden_and_head)
                for i, loss in enumerate(step_losses):
                    losses[i].append(loss)
                if on_step is not None:
                    on_step(step + 1, steps[0])
        finally:
            self.llm.stack.clear()
        encoded = [
            EncodedPassage(passage.key, weights, tuple(losses[i]))
            for i, (passage, weights) in enumerate(zip(passages, training.adapters(), strict=True))
        ]
        return [encoded[order.index(i)] for i in range(len(group))]

    @torch.inference_mode()
    def _teacher_hidden_states(self, passages: Sequence[PassageExamples]) -> dict[Example, Tensor]:
        """The model's own last hidden states `[n, d]` where it predicts the n tokens that an example is learnt from, of
        examples with a teacher: the passage in its prompt, no adapter in its weights."""
        teacher_hidden: dict[Example, Tensor] = {}
        waiting = sorted(
            {example for passage in passages for example in passage.examples if example.teacher_ids},
            key=lambda example: len(example.teacher_ids),
        )
        for start in range(0, len(waiting), len(passages)):
            batch = waiting[start : start + len(passages)]
            ids = torch.full((len(batch), len(batch[-1].teacher_ids)), self.llm.pad_id)
            for row, example in enumerate(batch):
                ids[row, : len(example.teacher_ids)] = torch.tensor(example.teacher_ids)
            hidden, _, _ = self._hidden_and_head(ids.to(self.llm.device))
            for row, example in enumerate(batch):
                end = len(example.teacher_ids) - 1
                teacher_hidden[example] = hidden[row, end - example.num_target_tokens : end].clone()
        return teacher_hidden


class _StackTraining:
    """The parameters and optimiser state of a group's training.

    Args:
        llm: Carries the adapters.
        weights: What they start from, `[G, r, d_in]` and `[G, d_out, r]` a module.
        recipe: How they are trained.
        teacher_hidden: The teacher's hidden states by example, for those that have one.
        null_space: Where A stays.
    """

    def __init__(
        self,
        llm: LLM,
        weights: LoraWeights,
        recipe: TrainingRecipe,
        teacher_hidden: Mapping[Example, Tensor],
        null_space: NullSpace | None,
    ) -> None:
        self.llm, self.recipe, self.teacher_hidden, self.null_space = llm, recipe, teacher_hidden, null_space
        self.names = list(weights)
        self.lora_a = [weights[name][0].to(llm.device) for name in self.names]
        self.lora_b = [weights[name][1].to(llm.device) for name in self.names]
        self.parameters = self.lora_b if recipe.lora_a == "shared" else [*self.lora_a, *self.lora_b]
        self.averages = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = [torch.tensor(0.0, dtype=torch.float32) for _ in self.parameters]

    def step(self, batch: Sequence[Sequence[Example]], hidden_and_head: HiddenAndHead) -> list[float]:
        """One AdamW step of the first `len(batch)` adapters on their examples; gives each one's mean token loss."""
        active = len(batch)
        leaves = [parameter[:active].detach().requires_grad_() for parameter in self.parameters]
        lora_a, lora_b = leaves[: -len(self.names)], leaves[-len(self.names) :]
        if self.recipe.lora_a == "shared":
            lora_a = [parameter[:active] for parameter in self.lora_a]
        pairs = zip(lora_a, lora_b, strict=True)
        self.llm.stack.set(dict(zip(self.names, pairs, strict=True)), self.recipe.scaling)
        rows = max(len(examples) for examples in batch)
        ids, labels, weights = _tensors(batch, rows, self.llm.pad_id, self.llm.device)
        with torch.enable_grad():
            hidden, head, bias = hidden_and_head(ids)
            is_target = weights > 0
            total, losses = self._loss(
                batch, rows, is_target, (hidden[:, :-1][is_target], head, bias, labels[is_target], weights[is_target])
            )
            gradients = torch.autograd.grad(total, leaves)
        with torch.no_grad():
            adamw(
                [parameter[:active] for parameter in self.parameters],
                list(gradients),
                [average[:active] for average in self.averages],
                [square[:active] for square in self.squares],
                [],
                self.steps,
                foreach=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=self.recipe.learning_rate,
                weight_decay=0.01,
                eps=1e-8,
                maximize=False,
            )
            if self.null_space is not None and self.recipe.lora_a == "trained":
                for name, parameter in zip(self.names, self.lora_a, strict=True):
                    parameter[:active] = self.null_space.project(name, parameter[:active])
        passage_of_token = (
            torch.arange(active * rows, device=ids.device)[:, None].expand_as(is_target)[is_target] // rows
        )
        means = losses.new_zeros(active)
        means.index_add_(0, passage_of_token, losses * weights[is_target])
        values: list[float] = means.tolist()
        return values

    def _loss(
        self, batch: Sequence[Sequence[Example]], rows: int, is_target: Tensor, states: _States
    ) -> tuple[Tensor, Tensor]:
        """The weighted sum of token losses, and each token's: against the teacher where an example has one."""
        hidden, head, bias, labels, weights = states
        examples = [example for group in batch for example in (*group, *[None] * (rows - len(group)))]
        teacher = [
            self.teacher_hidden[example]
            for example in examples
            if example is not None and example in self.teacher_hidden
        ]
        if not teacher:
            return frozen_head_cross_entropy(hidden, head, bias, labels, weights)
        has_teacher = torch.tensor([example in self.teacher_hidden for example in examples], device=is_target.device)
        by_teacher = has_teacher[:, None].expand_as(is_target)[is_target]
        losses = torch.empty(len(labels), dtype=torch.float32, device=hidden.device)
        totals = []
        for chosen, against in ((by_teacher, torch.cat(teacher)), (~by_teacher, None)):
            if chosen.any():
                total, losses[chosen] = frozen_head_cross_entropy(
                    hidden[chosen], head, bias, labels[chosen], weights[chosen], against
                )
                totals.append(total)
        return torch.stack(totals).sum(), losses

    def adapters(self) -> Iterator[LoraWeights]:
        """Each passage's adapter, on the CPU."""
        lora_a, lora_b = ([tensor.float().cpu() for tensor in tensors] for tensors in (self.lora_a, self.lora_b))
        for i in range(len(lora_a[0])):
            triples = zip(self.names, lora_a, lora_b, strict=True)
            yield {name: (each_a[i].clone(), each_b[i].clone()) for name, each_a, each_b in triples}


def _tensors(
    batch: Sequence[Sequence[Example]], rows: int, pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Right-padded ids `[G * rows, T]`, and the labels and loss weights of the tokens after the first, `[G * rows, T
    - 1]`.

    A passage's weights sum to 1. Padding needs no attention mask: it stands right of all that is read.
    """
    longest = max(len(example.input_ids) for examples in batch for example in examples)
    ids = torch.full((len(batch) * rows, longest), pad_id)
    weights = torch.zeros(len(batch) * rows, longest - 1, dtype=torch.float32)
    for g, examples in enumerate(batch):
        is_target = sum(example.num_target_tokens for example in examples)
        for row, example in enumerate(examples, start=g * rows):
            ids[row, : len(example.input_ids)] = torch.tensor(example.input_ids)
            weights[row, example.first_target - 1 : len(example.input_ids) - 1] = 1.0 / is_target
    ids = ids.to(device)
    return ids, ids[:, 1:], weights.to(device)


_States = tuple[Tensor, Tensor | None, Tensor | None, Tensor, Tensor]
"""Hidden states `[M, d]` of the tokens that are learnt, head, bias, and their labels and loss weights `[M]`."""
