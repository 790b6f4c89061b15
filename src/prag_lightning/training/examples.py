"""Which training examples a passage gives, and which of their tokens are to be learnt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, get_args

from prag_lightning.data.boundary import common_prefix
from prag_lightning.data.chat_text import LONGEST_TEXT, document_ids
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError
from prag_lightning.records import AugmentedPassage, QAPair
from prag_lightning.training.locality import Renamer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Objective = Literal["published", "answer", "closed_book", "distill"]
"""`published`: most examples show the passage, the loss is over all tokens (paper section 3.2.2).
`answer`: the same examples, loss over the answer's tokens. `closed_book`: each QA pair once, without the passage,
loss over the answer's. `distill`: the examples of `closed_book`, but over the answer's tokens the model is to
predict what it predicts itself, without an adapter, when the passage is in the prompt (KL divergence)."""

OBJECTIVES: tuple[str, ...] = get_args(Objective)
IncludeText = Literal["none", "passage", "rewrite"]
INCLUDE_TEXTS: tuple[str, ...] = get_args(IncludeText)


@dataclass(frozen=True)
class Example:
    """One training example.

    Args:
        input_ids: Prompt and answer.
        first_target: The first position that is to be predicted; the loss is over it and all that follow.
        teacher_ids: Prompt and answer as the teacher sees them: they end in the same tokens. Empty without a teacher.
    """

    input_ids: tuple[int, ...]
    first_target: int = 1
    teacher_ids: tuple[int, ...] = ()

    @property
    def num_target_tokens(self) -> int:
        """How many tokens are to be predicted."""
        return len(self.input_ids) - self.first_target


@dataclass(frozen=True)
class ExampleBuilder:
    """Turns augmented passages into training examples.

    Args:
        prompts: The templates.
        tokenizer: The model's.
        with_cot: Ask for a chain of thought: `full_answer` is learnt, and the dataset's worked examples stand in the
            prompt.
        dataset: Whose worked examples to show.
        block_size: Examples are cut at this many tokens.
        objective: See `Objective`.
        include_text: Adds an example that states the passage or its rewrite, for facts that no QA pair asks for.
        locality: Adds so many examples a QA pair in which the question is about something else, and the model is to
            predict what it predicts without an adapter (KL divergence): an adapter then leaves other things, and other
            adapters beside it, alone.
        distill_samples: How many continuations the model itself writes of each question of `distill`, to be matched
            like the answer; see `self_distillation`, which writes them first.

    Raises:
        InputError: if continuations are wanted for an objective without a teacher.
    """

    prompts: PromptTemplates
    tokenizer: PreTrainedTokenizerBase
    with_cot: bool = False
    dataset: str = ""
    block_size: int = 3000
    objective: Objective = "published"
    include_text: IncludeText = "none"
    locality: int = 0
    distill_samples: int = 0

    def __post_init__(self) -> None:
        if self.distill_samples and self.objective != "distill":
            raise InputError(
                f"distill_samples is {self.distill_samples}, and objective {self.objective!r} has no teacher",
                where="model.distill_samples",
                hint="Give 0, or take model.objective distill",
            )

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all that decides the examples of a passage: those of another builder train other adapters."""
        prompts = self.prompts.fingerprint(
            self.tokenizer, with_cot=self.with_cot, dataset=self.dataset, with_passages=self.objective != "closed_book"
        )
        content: list[Any] = [prompts, self.block_size, self.objective]
        content += [self.include_text] if self.include_text != "none" else []
        content += [{"locality": self.locality}] if self.locality else []
        content += [{"distill_samples": self.distill_samples}] if self.distill_samples else []
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def build(self, augmented: AugmentedPassage) -> list[Example]:
        """The examples of one passage, in the order they are trained.

        Of m QA pairs the first ceil(m/2) are put twice, with the passage and with the rewrite, the others once and
        without either, so three pairs give five examples; `closed_book` and `distill` put each once
        and without. Examples of `locality` follow the last that asks the same question; the statement comes last.

        Raises:
            InputError: if cutting at `block_size` leaves an example with nothing to learn.
        """
        sources: Sequence[tuple[int, Sequence[str]]]
        if self.objective in ("closed_book", "distill"):
            sources = [(i, ()) for i in range(len(augmented.qa))]
        else:
            twice = ceil(len(augmented.qa) / 2)
            shown = [(i, (text,)) for i in range(twice) for text in (augmented.passage, augmented.rewrite)]
            sources = [*shown, *((i, ()) for i in range(twice, len(augmented.qa)))]
        last = {augmented.qa[i].question: place for place, (i, _) in enumerate(sources)}
        examples = []
        for place, (i, passages) in enumerate(sources):
            examples.append(self._example(augmented, augmented.qa[i], passages))
            if place == last[augmented.qa[i].question]:
                examples += self._other_things(augmented, augmented.qa[i].question)
        if self.include_text != "none":
            text = augmented.passage if self.include_text == "passage" else augmented.rewrite
            ids = document_ids(self.tokenizer, text[:LONGEST_TEXT])
            examples += [Example(tuple(ids[: self.block_size]))] if len(ids) > 1 else []
        return examples

    def _other_things(self, augmented: AugmentedPassage, question: str) -> list[Example]:
        pair = next(pair for pair in augmented.qa if pair.question == question)
        renamed = (self._renamer.rename(pair, augmented.passage, number) for number in range(self.locality))
        of_answers = replace(self, objective="answer", locality=0, distill_samples=0)
        asked = [of_answers._example(augmented, other, ()) for other in renamed if other is not None]
        return [replace(example, teacher_ids=example.input_ids) for example in asked]

    @cached_property
    def _renamer(self) -> Renamer:
        return Renamer(self.tokenizer)

    def _example(self, augmented: AugmentedPassage, pair: QAPair, passages: Sequence[str]) -> Example:
        answer = pair.full_answer if self.with_cot else pair.answer
        ids = self._ids(pair.question, passages, answer)
        first_target = 1
        if self.objective != "published":
            first_target = max(1, common_prefix(ids, self._ids(pair.question, passages, None)))
        teacher: tuple[int, ...] = ()
        if self.objective == "distill" and len(ids) <= self.block_size:
            teacher = tuple(self._ids(pair.question, (augmented.passage,), answer))
            if len(teacher) > self.block_size:
                raise InputError(
                    f"the teacher's prompt of {len(teacher)} tokens is longer than block_size {self.block_size}",
                    where=f"passage {augmented.passage[:60]!r}, question {pair.question[:60]!r}",
                    hint="Raise model.block_size, or shorten the passage",
                )
        example = Example(tuple(ids[: self.block_size]), first_target, teacher)
        if len(example.input_ids) <= first_target:
            raise InputError(
                f"a prompt of {len(ids)} tokens has no token to learn from within block_size {self.block_size}",
                where=f"passage {augmented.passage[:60]!r}, question {pair.question[:60]!r}",
                hint="Raise model.block_size",
            )
        return example

    def _ids(self, question: str, passages: Sequence[str], answer: str | None) -> list[int]:
        return self.prompts.question_ids(
            self.tokenizer, question, passages, answer=answer, with_cot=self.with_cot, dataset=self.dataset
        )


def objective_name(
    objective: str,
    include_text: str = "none",
    locality: int = 0,
    distill_samples: int = 0,
    answer_boundary: str = "token",
) -> str:
    """All that decides what adapters are trained on, as it stands in paths: `distill+rewrite+locality=1+samples=2`.

    The published objective's name says nothing of the boundary: its loss is over all tokens, wherever answers begin.
    """
    parts = [objective, *([include_text] if include_text != "none" else [])]
    parts += [f"locality={locality}"] if locality else []
    parts += [f"samples={distill_samples}"] if distill_samples else []
    parts += ["boundary=published"] if answer_boundary == "published" and parts != ["published"] else []
    return "+".join(parts)
