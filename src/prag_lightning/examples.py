"""Which training examples a passage gives, and which of their tokens are to be learnt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal, get_args

from transformers import PreTrainedTokenizerBase

from prag_lightning.errors import InputError
from prag_lightning.prompts import LONGEST_TEXT, PromptTemplates
from prag_lightning.records import AugmentedPassage

Objective = Literal["published", "answer", "closed_book", "distill"]
"""`published`: most examples show the passage, the loss is over all tokens (paper section 3.2.2).
`answer`: the same examples, loss over the answer's tokens. `closed_book`: each QA pair once, without the passage,
loss over the answer's. `distill`: the examples of `closed_book`, but over the answer's tokens the model is to
predict what it predicts itself, without an adapter, when the passage is in the prompt (KL divergence)."""

OBJECTIVES: tuple[str, ...] = get_args(Objective)
Statement = Literal["none", "passage", "rewrite"]
STATEMENTS: tuple[str, ...] = get_args(Statement)


@dataclass(frozen=True)
class Example:
    """One training example.

    Args:
        input_ids: Prompt and answer.
        loss_from: The first position that is to be predicted; the loss is over it and all that follow.
        teacher_ids: Prompt and answer as the teacher sees them: they end in the same tokens. Empty without a teacher.
    """

    input_ids: tuple[int, ...]
    loss_from: int = 1
    teacher_ids: tuple[int, ...] = ()

    @property
    def learnt(self) -> int:
        """How many tokens are to be predicted."""
        return len(self.input_ids) - self.loss_from


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
        statement: Adds an example that states the passage or its rewrite, for facts that no QA pair asks for.
    """

    prompts: PromptTemplates
    tokenizer: PreTrainedTokenizerBase
    with_cot: bool = False
    dataset: str = ""
    block_size: int = 3000
    objective: Objective = "published"
    statement: Statement = "none"

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all that decides the examples of a passage: those of another builder train other adapters."""
        kind = "cot" if self.with_cot else "direct"
        templates = [self.prompts.templates[name] for name in ("passage", f"{kind}.user", f"{kind}.assistant")]
        fewshot = self.prompts.fewshot_text(self.dataset) if self.with_cot else ""
        content = [templates, fewshot, self.tokenizer.chat_template, self.block_size, self.objective]
        content += [self.statement] if self.statement != "none" else []
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def build(self, augmented: AugmentedPassage) -> list[Example]:
        """The examples of one passage, in the order they are trained.

        Of m QA pairs the first ceil(m/2) are put twice, with the passage and with the rewrite, the others once and
        without either, so three pairs give five examples; `closed_book` and `distill` put each once
        and without.

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
        examples = [self._example(augmented, i, passages) for i, passages in sources]
        if self.statement != "none":
            text = augmented.passage if self.statement == "passage" else augmented.rewrite
            ids: list[int] = self.tokenizer(text[:LONGEST_TEXT])["input_ids"]
            examples += [Example(tuple(ids[: self.block_size]))] if len(ids) > 1 else []
        return examples

    def _example(self, augmented: AugmentedPassage, index: int, passages: Sequence[str]) -> Example:
        pair = augmented.qa[index]
        answer = pair.full_answer if self.with_cot else pair.answer
        ids = self._ids(pair.question, passages, answer)
        loss_from = 1
        if self.objective != "published":
            loss_from = max(1, _common_prefix(ids, self._ids(pair.question, passages, None)))
        teacher: tuple[int, ...] = ()
        if self.objective == "distill" and len(ids) <= self.block_size:
            teacher = tuple(self._ids(pair.question, (augmented.passage,), answer))
            if len(teacher) > self.block_size:
                raise InputError(
                    f"the teacher's prompt of {len(teacher)} tokens is longer than block_size {self.block_size}",
                    where=f"passage {augmented.passage[:60]!r}, QA pair {index}",
                    mend="Raise model.block_size, or shorten the passage",
                )
        example = Example(tuple(ids[: self.block_size]), loss_from, teacher)
        if len(example.input_ids) <= loss_from:
            raise InputError(
                f"a prompt of {len(ids)} tokens has no token to learn from within block_size {self.block_size}",
                where=f"passage {augmented.passage[:60]!r}, QA pair {index}",
                mend="Raise model.block_size",
            )
        return example

    def _ids(self, question: str, passages: Sequence[str], answer: str | None) -> list[int]:
        return self.prompts.question_ids(
            self.tokenizer, question, passages, answer=answer, with_cot=self.with_cot, dataset=self.dataset
        )


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
