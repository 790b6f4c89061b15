"""What the frozen model itself says when it sees a passage: more for a student to match than the written answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from prag_lightning.llm.generation import generate
from prag_lightning.llm.loading import LLM
from prag_lightning.llm.sampling import RowSampler
from prag_lightning.records import AugmentedPassage, QAPair
from prag_lightning.training.examples import ExampleBuilder

TEMPERATURE, TOP_K = 1.0, 50
"""Of sampling: the model's own distribution, without its long tail."""
_NEW_TOKENS, _NEW_TOKENS_WITH_COT = 20, 128
"""As long as answers are by default."""
_Wanted = tuple[AugmentedPassage, QAPair, int]


def with_self_distillation(
    llm: LLM, builder: ExampleBuilder, passages: Sequence[AugmentedPassage]
) -> list[AugmentedPassage]:
    """Passages with each QA pair followed by the builder's `distill_samples` others, in which the model's own
    continuation of the question, with the passage in its prompt and no adapter, takes the answer's place.

    Every continuation has its own stream of random numbers, which passage, question and number decide: what else is in
    the batch does not change it.

    Args:
        llm: The model, which carries no adapter now.
        builder: Says how many continuations, and how questions are asked.
        passages: So many prompts are continued at once.
    """
    if not builder.distill_samples:
        return list(passages)
    wanted = [
        (passage, pair, number)
        for passage in passages
        for pair in passage.qa
        for number in range(builder.distill_samples)
    ]
    texts = _sample(llm, builder, wanted, len(passages))
    pairs = iter(QAPair(pair.question, text, text) for (_, pair, _), text in zip(wanted, texts, strict=True))
    return [
        replace(passage, qa=tuple(each for pair in passage.qa for each in (pair, *_take(pairs, builder))))
        for passage in passages
    ]


def with_placeholders(passage: AugmentedPassage, builder: ExampleBuilder) -> AugmentedPassage:
    """A passage as `with_self_distillation` will give it, each continuation standing in as long as the answer."""
    times = 1 + builder.distill_samples
    return replace(passage, qa=tuple(pair for pair in passage.qa for _ in range(times)))


def _take(pairs: Iterator[QAPair], builder: ExampleBuilder) -> list[QAPair]:
    return list(islice(pairs, builder.distill_samples))


def _sample(llm: LLM, builder: ExampleBuilder, wanted: Sequence[_Wanted], rows: int) -> list[str]:
    prompts = [
        builder.prompts.question_ids(
            llm.tokenizer, pair.question, [passage.passage], with_cot=builder.with_cot, dataset=builder.dataset
        )
        for passage, pair, _ in wanted
    ]
    length = _NEW_TOKENS_WITH_COT if builder.with_cot else _NEW_TOKENS
    order = sorted(range(len(wanted)), key=lambda place: len(prompts[place]))
    texts: dict[int, str] = {}
    for start in range(0, len(order), rows):
        batch = order[start : start + rows]
        seeds = [seed(*wanted[place]) for place in batch]
        replies = generate(
            llm,
            [prompts[place] for place in batch],
            length,
            make_processors=lambda rows, seeds=seeds: [  # type: ignore[misc]
                RowSampler([seeds[row] for row in rows], TEMPERATURE, TOP_K, length)
            ],
        )
        texts.update(zip(batch, replies, strict=True))
    return [
        builder.prompts.answer_of(llm.tokenizer, texts[place], with_cot=builder.with_cot)
        for place in range(len(wanted))
    ]


def seed(passage: AugmentedPassage, pair: QAPair, number: int) -> int:
    """What a continuation's random numbers start from."""
    content = f"{passage.content_hash} {pair.question} {number}"
    digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "little") >> 1
