"""What adapters hold, by objective, merge and number: the table behind the recommended recipe.

Entities are newly drawn from the demo's side of prag-tiny's world, none of them the demo's own, with perfect rewrites
and QA pairs; questions are in the demo's wordings, without a passage in the prompt. Writes a Markdown table to `--out`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path
from statistics import mean

import torch

from prag_lightning.encode import TrainingRecipe
from prag_lightning.examples import Objective, Statement
from prag_lightning.files import write_text
from prag_lightning.llm import LLM, load_llm
from prag_lightning.lora.merge import MERGES, Merge, merge, stack
from prag_lightning.lora.stack import LoraWeights
from prag_lightning.prompts import PromptTemplates
from prag_lightning.tiny.evaluation import Asked, Encoded, Evaluation, Scored
from prag_lightning.tiny.training import known_entities, read_record
from prag_lightning.tiny.world import World

KS = (1, 3, 5, 10)
RESAMPLES = 2000
HELD_OUT_TEXTS = 100


@dataclass(frozen=True)
class Way:
    """A way to train adapters."""

    objective: Objective
    statement: Statement
    recipe: TrainingRecipe

    @property
    def name(self) -> str:
        """As the tables call it."""
        return self.objective if self.statement == "none" else f"{self.objective} + {self.statement}"


STRONG = TrainingRecipe(lora_rank=8, lora_alpha=16, learning_rate=1e-3, num_train_epochs=8)
WAYS = (
    Way("published", "none", TrainingRecipe()),
    Way("published", "none", STRONG),
    Way("answer", "none", STRONG),
    Way("closed_book", "none", STRONG),
    Way("closed_book", "rewrite", STRONG),
    Way("distill", "none", STRONG),
    Way("distill", "rewrite", STRONG),
)


def main() -> None:
    """Compare, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="checkpoints/prag-tiny", help="folder of the model")
    parser.add_argument("--entities", type=int, default=60, help="how many entities to encode")
    parser.add_argument("--out", type=Path, default=Path("checkpoints/prag-tiny/OBJECTIVES.md"), help="file to write")
    options = parser.parse_args()
    llm, prompts = load_llm(options.model), PromptTemplates.load("configs/prompts/default.yaml")
    rows: list[str] = []
    unasked: list[str] = []
    kept: list[str] = []
    for way in WAYS:
        print(f"{way.name}, {way.recipe.num_train_epochs} epochs", file=sys.stderr)
        comparison = Comparison(llm, prompts, options.model, options.entities, way)
        rows += comparison.merges()
        unasked.append(comparison.unasked())
        kept.append(comparison.retention())
    questions = 3 * options.entities
    write_text(
        options.out, _REPORT.format(entities=options.entities, questions=questions, **_tables(rows, unasked, kept))
    )


class Comparison:
    """One way to train adapters, tried.

    Args:
        llm: prag-tiny.
        prompts: The templates.
        folder: Of the model.
        entities: How many to encode.
        way: How.
    """

    def __init__(self, llm: LLM, prompts: PromptTemplates, folder: str, entities: int, way: Way) -> None:
        self.llm, self.way = llm, way
        self.known = known_entities(read_record(Path(folder))[0])
        self.evaluation = Evaluation(llm, prompts, self.known, entities, seed=2)
        self.encoded = self.evaluation.encode(way.recipe, way.objective, way.statement)

    def merges(self) -> list[str]:
        """A row a merge: EM by number of adapters, and with another's; F1 for three."""
        bytes_each = 4 * sum(a.numel() + b.numel() for a, b in self.encoded.weights[0].values())
        rows = []
        for method in MERGES:
            if method == "score" or (method != "sum" and self.way.recipe == TrainingRecipe()):
                continue
            by_k = {k: self._ask(_neighbours(self.encoded, k), method) for k in KS if k > 1 or method == "sum"}
            cells = [_share([each.em for each in by_k[k]]) if k in by_k else "" for k in KS]
            other = ""
            if method == "sum":
                count = len(self.encoded.weights)
                other = _share([each.em for each in self._ask([[i - count // 2] for i in range(count)], method)])
            cells += [other, _share([each.f1 for each in by_k[3]])]
            cells += [f"{1000 * self.encoded.seconds:.0f}", f"{bytes_each / 1e3:.0f}"]
            rows.append(self._row(method, *cells))
        return rows

    def unasked(self) -> str:
        """EM of facts that two of the three QA pairs ask for, and of those that none does."""
        encoded = self.evaluation.encode(self.way.recipe, self.way.objective, self.way.statement, qa_pairs=2)
        asked: list[float] = []
        never: list[float] = []
        for entity, weights in zip(encoded.entities, encoded.weights, strict=True):
            scored = self.evaluation.score(self.evaluation.facts(entity, [weights]), scaling=encoded.scaling)
            asked += [each.em for each in scored[:2]]
            never += [each.em for each in scored[2:]]
        return self._row(_share(asked), _share(never))

    def retention(self) -> str:
        """What the model still knows of its training's world with adapters of passages from elsewhere."""
        cells = []
        groups = {0: [()], 1: [(w,) for w in self.encoded.weights[:10]], 3: [tuple(self.encoded.weights[:3])]}
        for rows in groups.values():
            asked = [
                each
                for i, entity in enumerate(self.known[: self.evaluation.cases])
                for each in self.evaluation.facts(entity, rows[i % len(rows)])
            ]
            cells.append(_share([each.em for each in self.evaluation.score(asked, scaling=self.encoded.scaling)]))
        cells += [f"{mean(self._perplexity(row) for row in rows):.2f}" for rows in groups.values()]
        return self._row(*cells)

    def _ask(self, rows: Sequence[Sequence[int]], method: Merge) -> list[Scored]:
        asked: list[Asked] = []
        for entity, row in zip(self.encoded.entities, rows, strict=True):
            asked += self.evaluation.facts(entity, [self.encoded.weights[i] for i in row])
        return self.evaluation.score(asked, scaling=self.encoded.scaling, method=method)

    @torch.inference_mode()
    def _perplexity(self, adapters: Sequence[LoraWeights]) -> float:
        """Of passages about training's names that neither the adapters nor the model have met."""
        world = World(1234, demo=False)
        if adapters:
            self.llm.stack.set(stack([merge(adapters)]), self.encoded.scaling)
        try:
            losses = []
            for _ in range(HELD_OUT_TEXTS):
                ids = torch.tensor([self.llm.tokenizer(world.passage(world.entity()))["input_ids"]])
                losses.append(float(self.llm.model(input_ids=ids, labels=ids).loss))
        finally:
            self.llm.stack.clear()
        return exp(mean(losses))

    def _row(self, *cells: str) -> str:
        recipe = f"{self.way.recipe.learning_rate:g} × {self.way.recipe.num_train_epochs}"
        return f"| {' | '.join((self.way.name, recipe, *cells))} |\n"


def _neighbours(encoded: Encoded, k: int) -> list[list[int]]:
    """Each entity's own adapter, and k - 1 others'."""
    return [[(i - step) % len(encoded.weights) for step in range(k)] for i in range(len(encoded.weights))]


def _share(values: Sequence[float]) -> str:
    """Mean in per cent, with half the width of its 95 % interval (bootstrap over questions)."""
    rng = random.Random(0)
    means = sorted(mean(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    half = (means[int(0.975 * RESAMPLES)] - means[int(0.025 * RESAMPLES)]) / 2
    return f"{100 * mean(values):.0f} ± {100 * half:.0f}"


def _tables(rows: Sequence[str], unasked: Sequence[str], kept: Sequence[str]) -> dict[str, str]:
    return {"rows": "".join(rows), "unasked": "".join(unasked), "kept": "".join(kept)}


_REPORT = """\
# What adapters hold

`python scripts/compare_objectives.py` on prag-tiny: {entities} entities that are in neither the training nor the demo,
{questions} questions in the demo's wordings, no passage in the prompt. Shares are per cent, with half the width of
their 95 % interval. The recipe is learning rate × epochs: the first row's is the paper's, with rank 2 and alpha 32, the
others' is the demo's, with rank 8 and alpha 16.

## By objective, merge and number of adapters

Exact match with the passage's own adapter merged with those of k - 1 other passages; with another passage's adapter
alone; F1 at k = 3; encoding time and bytes (float32) a passage.

| objective | recipe | merge | k = 1 | k = 3 | k = 5 | k = 10 | another's | F1, k = 3 | ms | kB |
|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|
{rows}
## Facts that nobody asked for

Adapters of two QA pairs a passage of three facts: exact match of what the pairs ask for, and of the third fact.

| objective | recipe | asked | not asked |
|---|---|---:|---:|
{unasked}
## What the model keeps

Exact match on entities that it knows by heart, and perplexity of unseen passages of its training's world, without an
adapter, with that of a passage that has nothing to do with the question, and with three.

| objective | recipe | EM, none | EM, one | EM, three | perplexity, none | one | three |
|---|---|---:|---:|---:|---:|---:|---:|
{kept}"""


if __name__ == "__main__":
    main()
