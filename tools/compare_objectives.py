"""What adapters hold, by objective, merge and number: the tables behind the recommended recipe.

Entities are newly drawn from the demo's side of prag-tiny's world, none of them the demo's own, in threes with names
alike, with perfect rewrites and QA pairs. Questions are in the demo's wordings, without a passage in the prompt. Runs
on one core; writes Markdown tables to `--out`, of as many ways, merges and numbers of adapters as are asked for, and
with `--page docs/objectives.md` those that stand there.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp
from pathlib import Path
from statistics import mean

import torch

from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.files import write_text
from prag_lightning.llm.loading import LLM, load_llm
from prag_lightning.lora.merge import merge, stack
from prag_lightning.lora.names import MERGES, Merge
from prag_lightning.lora.stack import LoraWeights
from prag_lightning.records import AugmentedPassage, Passage
from prag_lightning.retrieval import RankBM25Retriever
from prag_lightning.training.examples import ExampleBuilder, IncludeText, Objective, objective_name
from prag_lightning.training.recipe import TrainingRecipe
from tools.prag_tiny.evaluation import RECIPE, Asked, Evaluation, Scored
from tools.prag_tiny.training import known_entities, read_record
from tools.prag_tiny.world import Entity, World

KS = (1, 3, 5, 10)
ALIKE = 3
"""Entities whose names share a word."""
RESAMPLES = 2000
HELD_OUT_TEXTS = 100
OTHERS_ASKED = 3
"""One in so many questions is asked with adapters that do not have its answer: next to none will be right."""
OTHERS = 10
"""Adapters that take turns where any other's will do."""


@dataclass(frozen=True)
class Way:
    """A way to train adapters."""

    objective: Objective
    include_text: IncludeText = "none"
    locality: int = 0
    distill_samples: int = 0
    recipe: TrainingRecipe = RECIPE

    @property
    def name(self) -> str:
        """As paths and tables call it."""
        name = objective_name(self.objective, self.include_text, self.locality, self.distill_samples)
        return f"{name}, the paper's recipe" if self.recipe == TrainingRecipe() else name


WAYS = (
    Way("published", recipe=TrainingRecipe()),
    Way("published"),
    Way("answer"),
    Way("closed_book"),
    Way("closed_book", "rewrite"),
    Way("closed_book", "rewrite", locality=1),
    Way("distill"),
    Way("distill", distill_samples=1),
)
Table = dict[str, list[Sequence[str]]]
"""Rows by the table's name."""


@dataclass(frozen=True)
class Found:
    """A question, and the places of passages in the order they are merged in, with their scores in retrieval."""

    asked: Asked
    own: Sequence[int]
    other: Sequence[int]
    scores: dict[int, float]


class Trial:
    """Entities, their passages, questions, and what BM25 finds for these among the passages.

    Args:
        llm: prag-tiny.
        prompts: The templates.
        folder: Of the model.
        entities: How many.
    """

    def __init__(self, llm: LLM, prompts: PromptTemplates, folder: str, entities: int) -> None:
        self.llm, self.prompts = llm, prompts
        known = known_entities(read_record(Path(folder))[0])
        self.evaluation = Evaluation(llm, prompts, known, entities, seed=2)
        self.world = self.evaluation.world
        self.entities: list[Entity] = []
        while len(self.entities) < entities:
            first = self.world.entity()
            self.entities += [first, *(self.world.confusable(first) for _ in range(ALIKE - 1))]
        self.passages = [self.world.augmented(entity) for entity in self.entities]
        self.known = known[: entities // 2]
        home = World(1234, demo=False)
        self.half_known = [home.augmented(_first_facts(entity)) for entity in self.known]
        self.found = self._find()
        strangers = World(4321, demo=False)
        self.held_out = [strangers.passage(strangers.entity()) for _ in range(HELD_OUT_TEXTS)]
        self.reworded = [
            self.world.passage(entity, unlike=passage.passage)
            for entity, passage in zip(self.entities, self.passages, strict=True)
        ]

    def _find(self) -> list[Found]:
        corpus = [
            Passage(passage.passage, str(i), entity.name)
            for i, (entity, passage) in enumerate(zip(self.entities, self.passages, strict=True))
        ]
        retriever = RankBM25Retriever(corpus)
        questions = [(i, asked) for i, entity in enumerate(self.entities) for asked in self.evaluation.facts(entity)]
        ranked = []
        for hits in retriever.search([asked.question for _, asked in questions], len(corpus)):
            scores = {int(hit.passage.id): hit.score for hit in hits}
            ranked.append((list(scores) + [i for i in range(len(corpus)) if i not in scores], scores))
        found = []
        for number, (own, asked) in enumerate(questions):
            order, scores = ranked[number]
            elsewhere, _ = ranked[(number + len(ranked) // 2) % len(ranked)]
            others = [i for i in elsewhere if i != own]
            found.append(Found(asked, [own, *(i for i in order if i != own)], others, scores))
        self.first = mean(order[0] == own for (order, _), (own, _) in zip(ranked, questions, strict=True))
        return found

    def builder(self, way: Way) -> ExampleBuilder:
        """What makes examples of passages."""
        return ExampleBuilder(
            self.prompts,
            self.llm.tokenizer,
            objective=way.objective,
            include_text=way.include_text,
            locality=way.locality,
            distill_samples=way.distill_samples,
        )

    def train(self, way: Way, passages: Sequence[AugmentedPassage]) -> list[LoraWeights]:
        """An adapter a passage."""
        return self.evaluation.train(passages, way.recipe, self.builder(way))

    def ask(self, asked: Sequence[Asked], way: Way, method: Merge = "sum") -> list[Scored]:
        """Answers, scored."""
        return self.evaluation.score(asked, scaling=way.recipe.scaling, method=method)

    def in_prompt(self, ks: Sequence[int]) -> list[list[Scored]]:
        """Answers with the passages in the prompt instead, by their number."""
        return [
            self.evaluation.score(
                [replace(f.asked, passages=[self.passages[i].passage for i in f.own[:k]]) for f in self.found]
            )
            for k in ks
        ]

    def perplexity(self, texts: Sequence[str], adapters: Sequence[LoraWeights], way: Way) -> float:
        """Of texts, each with the next of some adapters, if there are any."""
        losses = []
        for i, text in enumerate(texts):
            if adapters:
                self.llm.stack.set(stack([adapters[i % len(adapters)]]), way.recipe.scaling)
            try:
                ids = torch.tensor([self.llm.tokenizer(text)["input_ids"]])
                with torch.inference_mode():
                    losses.append(float(self.llm.model(input_ids=ids, labels=ids).loss))
            finally:
                self.llm.stack.clear()
        return exp(mean(losses))


def compare(trial: Trial, way: Way, merges: Sequence[Merge], ks: Sequence[int], tables: Table) -> None:
    """Try one way to train adapters, and add its rows to the tables."""
    started = time.process_time()
    adapters = trial.train(way, trial.passages)
    seconds = (time.process_time() - started) / len(adapters)
    bytes_each = 4 * sum(a.numel() + b.numel() for a, b in adapters[0].values())
    recipe = f"rank {way.recipe.lora_rank}, {way.recipe.learning_rate:g} × {way.recipe.num_train_epochs}"
    tables["costs"].append((way.name, recipe, f"{seconds:.3f}", f"{1 / seconds:.1f}", f"{bytes_each / 1e3:.0f}"))
    for method in merges if way.recipe != TrainingRecipe() else merges[:1]:
        exact, overlap = [], []
        for rows, found in (("own", trial.found), ("other", trial.found[::OTHERS_ASKED])):
            for k in ks:
                # one adapter is the same however it is merged
                scored = (
                    [] if k == 1 and method != merges[0] else trial.ask(merged(found, rows, k, adapters), way, method)
                )
                exact.append(share([each.em for each in scored]))
                overlap.append(share([each.f1 for each in scored]))
        tables["exact"].append((way.name, method, *exact))
        tables["overlap"].append((way.name, method, *overlap))
    tables["unasked"].append((way.name, *unasked(trial, way)))
    tables["kept"].append((way.name, *retention(trial, way, adapters)))


def merged(found: Sequence[Found], rows: str, k: int, adapters: Sequence[LoraWeights]) -> list[Asked]:
    """Questions with the adapters of their `own` or `other` first k passages."""
    places = [(each, getattr(each, rows)[:k]) for each in found]
    return [
        replace(
            each.asked, adapters=[adapters[i] for i in row], scores=[max(0.0, each.scores.get(i, 0.0)) for i in row]
        )
        for each, row in places
    ]


def unasked(trial: Trial, way: Way) -> list[str]:
    """EM of facts that two of the three QA pairs ask for, and of those that none does."""
    some = trial.passages[: len(trial.passages) // 2]
    adapters = trial.train(way, [replace(passage, qa=passage.qa[:2]) for passage in some])
    questions = trial.found[: 3 * len(some)]
    asked = [merged(questions[place::3], "own", 1, adapters) for place in range(3)]
    return [share([each.em for each in trial.ask(questions, way)]) for questions in ([*asked[0], *asked[1]], asked[2])]


def retention(trial: Trial, way: Way, adapters: Sequence[LoraWeights]) -> list[str]:
    """What the model still knows of its training's world with adapters."""
    own = trial.train(way, trial.half_known)
    facts = [trial.evaluation.facts(entity) for entity in trial.known]
    ones = list(adapters[::ALIKE])[:OTHERS]
    threes = [[adapters[(i + step) % len(adapters)] for step in (0, 1, ALIKE)] for i in range(0, OTHERS * ALIKE, ALIKE)]
    exact = [
        trial.ask([each for asked in facts for each in asked], way),
        trial.ask([replace(asked[2], adapters=[weights]) for asked, weights in zip(facts, own, strict=True)], way),
    ]
    for rows, method in (([[each] for each in ones], "sum"), (threes, "sum"), (threes, "orthogonal")):
        asked = [replace(each, adapters=rows[i % len(rows)]) for i, entity in enumerate(facts) for each in entity]
        exact.append(trial.ask(asked, way, method))
    merged: list[list[LoraWeights]] = [[merge(row, method) for row in threes] for method in ("sum", "orthogonal")]
    surprise = [trial.perplexity(trial.held_out, row, way) for row in ([], ones, *merged)]
    surprise += [trial.perplexity(trial.reworded, row, way) for row in ([], adapters)]
    return [share([each.em for each in row]) for row in exact] + [f"{each:.1f}" for each in surprise]


def share(values: Sequence[float]) -> str:
    """Mean in per cent, with half the width of its 95 % interval (bootstrap over questions); empty for no values."""
    if not values:
        return ""
    rng = random.Random(0)
    means = sorted(mean(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    half = (means[int(0.975 * RESAMPLES)] - means[int(0.025 * RESAMPLES)]) / 2
    return f"{100 * mean(values):.0f} ± {100 * half:.0f}"


def _first_facts(entity: Entity) -> Entity:
    """An entity of which the last fact is not said."""
    return replace(entity, facts=dict(list(entity.facts.items())[:-1]))


def main() -> None:
    """Compare, and write the tables."""
    names = [way.name for way in WAYS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="checkpoints/prag-tiny", help="folder of the model")
    parser.add_argument("--entities", type=int, default=30, help="how many entities to encode, a multiple of three")
    parser.add_argument("--ways", nargs="+", choices=names, default=names, metavar="WAY", help=f"of {', '.join(names)}")
    parser.add_argument("--merges", nargs="+", choices=MERGES, default=list(MERGES), help="how adapters are merged")
    parser.add_argument("--ks", nargs="+", type=int, default=list(KS), metavar="K", help="how many are merged")
    parser.add_argument("--page", type=Path, help="file that has a place for the summary; needs all ways and merges")
    parser.add_argument("--out", type=Path, default=Path("checkpoints/prag-tiny/OBJECTIVES.md"), help="file to write")
    options = parser.parse_args()
    if options.page and (options.ways, options.merges, options.ks) != (names, list(MERGES), list(KS)):
        parser.error("--page needs all ways, merges and numbers of adapters")
    if options.page and not (options.page.is_file() and _has_place(options.page.read_text(encoding="utf-8"))):
        parser.error(f"{options.page} has no place for the summary: the lines {_BEGIN.strip()} and {_END.strip()}")
    torch.set_num_threads(1)
    llm, prompts = load_llm(options.model), PromptTemplates.load("configs/prompts/default.yaml")
    trial = Trial(llm, prompts, options.model, options.entities)
    tables: Table = {name: [] for name in ("exact", "overlap", "unasked", "kept", "costs")}
    shown = trial.in_prompt(options.ks)
    blank = [""] * len(options.ks)
    for table in ("exact", "overlap"):
        values = [share([each.em if table == "exact" else each.f1 for each in row]) for row in shown]
        tables[table].append(("passages in the prompt", "", *values, *blank))
    for way in WAYS:
        if way.name in options.ways:
            started = time.perf_counter()
            compare(trial, way, options.merges, options.ks, tables)
            print(f"{way.name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
            write_text(options.out, _report(trial, options.ks, tables))
    if options.page:
        write_text(options.page, _with_summary(options.page.read_text(encoding="utf-8"), tables))


def _report(trial: Trial, ks: Sequence[int], tables: Table) -> str:
    heads = {
        name: ["objective", "merge", *(f"own, k = {k}" for k in ks), *(f"other, k = {k}" for k in ks)]
        for name in ("exact", "overlap")
    }
    heads["unasked"] = ["objective", "asked", "not asked"]
    heads["kept"] = ["objective", "EM, none", "own", "another's", "three", "three, orthogonal"]
    heads["kept"] += ["perplexity, none", "another's", "three", "three, orthogonal", "own text, none", "own"]
    heads["costs"] = ["objective", "recipe", "seconds a passage", "passages a second", "kB a passage"]
    return _REPORT.format(
        entities=len(trial.entities),
        questions=len(trial.found),
        first=f"{100 * trial.first:.0f}",
        **{name: _markdown(heads[name], rows, _WORDS.get(name, 1)) for name, rows in tables.items()},
    )


def _has_place(text: str) -> bool:
    return -1 < text.find(_BEGIN) < text.find(_END)


def _with_summary(text: str, tables: Table) -> str:
    """The README with its tables of objectives made anew: the one to read, and all of it to unfold."""
    begin, end = (text.index(mark) for mark in (_BEGIN, _END))
    exact = {(row[0], row[1]): row[2:] for row in tables["exact"]}
    overlap = {(row[0], row[1]): row[2:] for row in tables["overlap"]}
    costs = {row[0]: (row[2], row[4]) for row in tables["costs"]}
    kept = {row[0]: row[4] for row in tables["kept"]}
    one, three, ten = (KS.index(k) for k in (1, 3, 10))
    rows = []
    for name in dict.fromkeys(name for name, _ in exact):
        first = next(values for (way, _), values in exact.items() if way == name)
        score = exact.get((name, "score"), exact.get((name, ""), [""] * len(first)))
        by_heart, cost = kept.get(name, ""), costs.get(name, ("", ""))
        own = [first[one], first[three], score[three], score[ten]]
        rows.append([name, *own, first[len(KS) + three], by_heart, *cost])
    every = [
        [*way, *(f"{em}, {f1}" if em else "" for em, f1 in zip(values, overlap[way], strict=True))]
        for way, values in exact.items()
    ]
    heads = [f"{whose}, k = {k}" for whose in ("own", "other") for k in KS]
    summary = _markdown(_SUMMARY_HEAD, rows, words=1)
    whole = _markdown(["objective", "merge", *heads], every, words=2)
    return text[:begin] + _SUMMARY.format(begin=_BEGIN, summary=summary, whole=whole) + text[end:]


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    lines = [head, ["---"] * words + ["---:"] * (len(head) - words), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


_WORDS = {"exact": 2, "overlap": 2, "costs": 2}
"""Columns of a table that hold words, where it is more than one."""
_BEGIN, _END = "<!-- objectives: begin -->\n", "<!-- objectives: end -->\n"
_SUMMARY_HEAD = [
    "objective",
    "own, k = 1",
    "k = 3, `sum`",
    "k = 3, `score`",
    "k = 10, `score`",
    "another's, k = 3",
    "knows by heart, with three others'",
    "seconds a passage",
    "kB",
]
_SUMMARY = """\
{begin}
{summary}
<details><summary>Every merge and number of adapters: exact match, F1</summary>

{whole}
</details>

"""
_REPORT = """\
# What adapters hold

`python -m tools.compare_objectives` on prag-tiny, on one CPU core: {entities} entities that are in neither the
training nor the demo, in threes whose names share a word, and {questions} questions in the demo's wordings, no passage
in the prompt. Shares are per cent, with half the width of their 95 % interval (bootstrap over questions).

An objective's name is that of its directory: what an adapter is trained on, the statement, questions about other
things (`locality`), the model's own continuations (`samples`). The recipe is the demo's, rank 8, alpha 16, learning
rate 0.001, 8 epochs, except where it is the paper's: rank 2, alpha 32, 0.0003, 1 epoch.

## By objective, merge and number of adapters

`own`: the adapter of the passage that has the answer, merged with those of the k - 1 others that BM25 ranks best for
the question, most of them about things with names alike; it ranks the right one first in {first} %. `other`: those of
the k passages that are ranked best for another question, the right one never among them, tried on every third. The
first row has the same passages in the prompt, as standard RAG does.

Exact match:

{exact}
F1:

{overlap}
## Facts that nobody asked for

Adapters of two QA pairs a passage of three facts: exact match of what the pairs ask for, and of the third fact.

{unasked}
## What the model keeps

Exact match on entities that the model knows by heart: without an adapter; with that of a passage about the entity
itself, asked for the one fact that the passage does not state (own); with that of a passage that has nothing to do with
the question; with three such, added and merged orthogonally. Then the perplexity of unseen passages of training's world
with none, another's, and three; and that of the encoded passages' facts in other words, without and with the own
adapter.

{kept}
## What it costs

Processor time of one core, building examples and writing continuations included; bytes in float32.

{costs}"""


if __name__ == "__main__":
    main()
