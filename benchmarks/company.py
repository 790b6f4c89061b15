"""What adapters leave of each other, of the passage in the prompt, and of what the model knows by heart.

    python -m benchmarks.company [--entities 100]

prag-tiny's world: each entity has a passage, an adapter and three questions in other words. An adapter is asked alone,
summed with those of an entity whose name can be confused and of others, and beside the passages; at several shares of
the energy of general text, with A trained and with one A for all. Then sums of more and more passages. Writes
`COMPANY.md` and `COMPANY.json`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.subjects import PROMPTS, TINY
from benchmarks.timing import machine
from prag_lightning.data.general_text import load_general_text
from prag_lightning.files import write_json, write_text
from prag_lightning.llm.loading import LLM, load_llm
from prag_lightning.lora.adapters import random_adapter
from prag_lightning.lora.merge import merge
from prag_lightning.lora.null_space import NullSpace, SecondMoments
from prag_lightning.lora.stack import LoraWeights
from prag_lightning.training.encoder import Encoder, PassageExamples
from prag_lightning.training.examples import ExampleBuilder
from prag_lightning.training.null_space import second_moments
from prag_lightning.training.recipe import TrainingRecipe
from tools.prag_tiny.evaluation import Asked, Evaluation
from tools.prag_tiny.general import KNOWN
from tools.prag_tiny.training import known_entities, read_record
from tools.prag_tiny.world import Entity, World

HERE = Path(__file__).parent
STRONGER = {None: 1, 0.5: 2, 0.3: 2, 0.1: 4, 0.03: 8}
"""By share of the energy that is kept, how much alpha is raised: A reads less of what it is to react to."""
MANY = (1, 3, 5, 10, 30, 100)
"""Passages of one sum."""
TRAINED = TrainingRecipe(8, 16, 1e-3, 8)
SHARED = TrainingRecipe(16, 32, 3e-3, 8, lora_a="shared")
SHARE = 0.3
"""Of the recipes of higher ranks."""
WIDER = tuple(TrainingRecipe(rank, 2 * rank, 48e-3 / rank, 8, lora_a="shared") for rank in (64, 256))


def stronger(recipe: TrainingRecipe, share: float | None) -> TrainingRecipe:
    """A recipe with the alpha that suits a share."""
    return replace(recipe, lora_alpha=STRONGER[share] * recipe.lora_alpha)


def name_of(recipe: TrainingRecipe) -> str:
    """For tables."""
    return f"A {recipe.lora_a}, rank {recipe.lora_rank}, alpha {recipe.lora_alpha}, rate {recipe.learning_rate:g}"


class Company:
    """Entities in groups: one, one whose name can be confused, and others.

    Args:
        llm: The model.
        entities: How many groups.
    """

    def __init__(self, llm: LLM, entities: int) -> None:
        self.llm = llm
        known = known_entities(read_record(Path(TINY))[0])[KNOWN:]
        self.evaluation = Evaluation(llm, PROMPTS, known, len(known))
        self.builder = ExampleBuilder(PROMPTS, llm.tokenizer, objective="closed_book", include_text="rewrite")
        self.world = World(77, demo=True)
        self.own = [self.world.entity() for _ in range(entities)]
        self.alike = [self.world.confusable(entity) for entity in self.own]
        self.moments: SecondMoments = second_moments(llm, PROMPTS, load_general_text(f"{TINY}/general_text.jsonl"))

    def null_space(self, share: float | None) -> NullSpace | None:
        """The projection."""
        if share is None:
            return None
        return NullSpace({name: basis for each in self.moments.bases(share) for name, basis in each.items()})

    def encode(self, recipe: TrainingRecipe, share: float | None, entities: Sequence[Entity]) -> list[LoraWeights]:
        """An adapter an entity."""
        null_space = self.null_space(share)
        start = random_adapter(self.llm.stack, recipe.lora_rank, 0)
        start = start if null_space is None else null_space.projected(start)
        encoder, weights = Encoder(self.llm, start, recipe, null_space), []
        for first in range(0, len(entities), 50):
            some = [self.world.augmented(entity) for entity in entities[first : first + 50]]
            group = [PassageExamples(str(i), tuple(self.builder.build(each))) for i, each in enumerate(some)]
            weights += [encoded.weights for encoded in encoder.encode(group)]
        return weights

    def em(self, rows: Sequence[tuple[Sequence[Asked], LoraWeights | None]], scaling: float) -> float:
        """Exact match, in per cent."""
        asked = [
            replace(each, adapters=[] if weights is None else [weights]) for facts, weights in rows for each in facts
        ]
        scored = self.evaluation.score(asked, scaling=scaling)
        return 100 * sum(each.em for each in scored) / len(scored)

    def measure(self, recipe: TrainingRecipe, share: float | None) -> dict[str, float]:
        """All of one row."""
        own, alike = self.encode(recipe, share, self.own), self.encode(recipe, share, self.alike)
        count, scaling, lora_a = len(own), recipe.scaling, recipe.lora_a
        facts = [self.evaluation.facts(entity) for entity in self.own]

        def company(i: int, k: int) -> list[LoraWeights]:
            return [own[i], *[alike[i]][: k - 1], *(own[(i + step) % count] for step in range(1, k - 1))]

        def summed(k: int) -> list[LoraWeights]:
            return [merge(company(i, k), lora_a=lora_a) for i in range(count)]

        def shown(k: int) -> list[list[Asked]]:
            others = [[self.alike[i], self.own[(i + 1) % count]][: k - 1] for i in range(count)]
            texts = [[self.world.passage(e) for e in (self.own[i], *others[i])] for i in range(count)]
            return [[replace(each, passages=texts[i]) for each in facts[i]] for i in range(count)]

        known = [self.evaluation.facts(entity) for entity in self.evaluation.known[:count]]
        result = {"own": self.em(list(zip(facts, own, strict=True)), scaling)}
        for k in (3, 5, 10):
            result[f"sum of {k}"] = self.em(list(zip(facts, summed(k), strict=True)), scaling)
        for k in (1, 3):
            prompts = shown(k)
            result[f"icl {k}"] = self.em([(each, None) for each in prompts], scaling)
            result[f"combine {k}"] = self.em(list(zip(prompts, summed(k), strict=True)), scaling)
        for k in (0, 1, 3, 10):
            with_adapters = summed(k) if k else [None] * count
            result[f"by heart, {k}"] = self.em(list(zip(known, with_adapters, strict=True)), scaling)
        return result

    def capacity(self, recipe: TrainingRecipe, share: float | None) -> dict[int, tuple[float, float]]:
        """By how many passages one sum has: EM of the first 30 of them, and of what is known by heart."""
        entities = [self.world.entity() for _ in range(max(MANY))]
        weights, lora_a = self.encode(recipe, share, entities), recipe.lora_a
        known = [self.evaluation.facts(entity) for entity in self.evaluation.known[:30]]
        found = {}
        for many in MANY:
            chosen = range(30) if many < 30 else range(many)
            groups = [range(i, i + many) for i in chosen[::many]] if many < 30 else [range(many)]
            rows, heart = [], []
            for group in groups:
                merged = merge([weights[i] for i in group if i < len(weights)], lora_a=lora_a)
                rows += [(self.evaluation.facts(entities[i]), merged) for i in list(group)[:30]]
                heart += [(facts, merged) for facts in known[: max(3, 30 // len(groups))]]
            found[many] = (self.em(rows, recipe.scaling), self.em(heart, recipe.scaling))
        return found


def main() -> None:
    """Measure, and write the page and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entities", type=int, default=100, help="groups that are asked")
    parser.add_argument("--page", type=Path, default=HERE / "COMPANY.md", help="what is written")
    options = parser.parse_args()
    company, started = Company(load_llm(str(TINY)), options.entities), time.perf_counter()
    table: list[tuple[str, float | None, dict[str, float]]] = []
    rows = [(recipe, share) for recipe in (TRAINED, SHARED) for share in STRONGER]
    for plain, share in [*rows, *((recipe, SHARE) for recipe in WIDER[:1])]:
        recipe = stronger(plain, share)
        table.append((name_of(recipe), share, company.measure(recipe, share)))
        print(table[-1], flush=True)
    sums = {r.lora_rank: company.capacity(stronger(r, SHARE), SHARE) for r in (SHARED, *WIDER)}
    minutes = (time.perf_counter() - started) / 60
    write_json(options.page.with_suffix(".json"), {"table": table, "sums": sums})
    write_text(options.page, page(table, sums, options.entities, minutes))


def page(
    table: Sequence[tuple[str, float | None, dict[str, float]]],
    sums: dict[int, dict[int, tuple[float, float]]],
    entities: int,
    minutes: float,
) -> str:
    """Everything as Markdown."""
    columns = list(table[0][2])
    lines = [
        "# Adapters in company",
        "",
        f"Written by `python -m benchmarks.company` on {machine()}, in {minutes:.0f} minutes. prag-tiny, {entities}",
        "entities, three questions each in other words than those that were trained; exact match in per cent. `sum of",
        "k`: the entity's adapter, that of one whose name can be confused, and others'. `icl k` and `combine k`: those",
        "passages in the prompt. `by heart, k`: other entities, known from the model's own training, with k adapters.",
        "",
        "| recipe | share kept | " + " | ".join(columns) + " |",
        "|---|---:|" + "---:|" * len(columns),
    ]
    for name, share, row in table:
        cells = [name, "all" if share is None else f"{share:.0%}", *(f"{row[column]:.0f}" for column in columns)]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "## How many passages one sum carries",
        "",
        f"One A for all, {SHARE:.0%} kept: exact match about the first 30 passages of a sum, and of what is known by",
        "heart.",
        "",
        "| passages | " + " | ".join(f"rank {rank} | by heart" for rank in sums) + " |",
        "|---:|" + "---:|---:|" * len(sums),
    ]
    for many in MANY:
        cells = [f"{value:.0f}" for found in sums.values() for value in found[many]]
        lines.append(f"| {many} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
