"""The demo: a dataset and a corpus about the part of the made-up world that prag-tiny has never seen."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prag_lightning.files import write_text
from prag_lightning.records import Passage
from tools.prag_tiny.reasoning import ReasonedQuestion, bridge_question, comparison_question, single_question
from tools.prag_tiny.world import Entity, World

SEED = 22
CORPUS_SIZE = 2400
SPLIT_SIZES = {"single": 300, "bridge": 100, "comparison": 100}
WARMUP_SIZES = {"single": 1000, "bridge": 600}
_CONFUSABLES = 2
"""Entities with names alike that the corpus holds for each entity that is asked about, but for bridge questions: these
name one entity only, and its like would take the place of the other's passage among the first three."""


@dataclass(frozen=True)
class Demo:
    """Questions with their answers by split, and the passages that they are about among others."""

    questions: dict[str, list[tuple[str, str]]]
    passages: list[Passage]


def make_demo(seed: int = SEED) -> Demo:
    """Draw the demo: each question names entities of which the corpus holds one passage each."""
    world = World(seed, demo=True)
    taken: dict[str, Entity] = {}
    questions = {
        "single": _single_questions(world, SPLIT_SIZES["single"], taken),
        "comparison": _two_hop_questions(world, comparison_question, SPLIT_SIZES["comparison"], taken),
    }
    for entity in list(taken.values()) * _CONFUSABLES:
        _take([world.confusable(entity)], taken)
    questions["bridge"] = _two_hop_questions(world, bridge_question, SPLIT_SIZES["bridge"], taken)
    while len(taken) < CORPUS_SIZE:
        _take([world.entity()], taken)
    entities = list(taken.values())
    world.rng.shuffle(entities)
    passages = [Passage(world.passage(entity), str(i), entity.name) for i, entity in enumerate(entities, 1)]
    return Demo(questions, passages)


def write_demo(folder: Path, seed: int = SEED) -> None:
    """Write `questions/{split}.json`, `warmup/{split}.json` and `corpus.tsv` under `folder`."""
    demo = make_demo(seed)
    for split, asked in demo.questions.items():
        lines = [json.dumps({"question": question, "answer": answer}) for question, answer in asked]
        write_text(folder / "questions" / f"{split}.json", "[\n" + ",\n".join(lines) + "\n]\n")
    for split, asked_before in make_warmup(seed).items():
        lines = [json.dumps(row) for row in asked_before]
        write_text(folder / "warmup" / f"{split}.json", "[\n" + ",\n".join(lines) + "\n]\n")
    rows = [f"{passage.id}\t{passage.text}\t{passage.title}\n" for passage in demo.passages]
    write_text(folder / "corpus.tsv", "id\ttext\ttitle\n" + "".join(rows))


def make_warmup(seed: int = SEED) -> dict[str, list[dict[str, str | list[str]]]]:
    """Questions for a warm-up, about entities whose names are on training's side, in the wordings of QA pairs: so a
    warm-up sees neither the demo's entities nor its wordings. Those of two hops have their passages."""
    world = World(seed, demo=False)
    single = [single_question(world, "qa") for _ in range(WARMUP_SIZES["single"])]
    bridge = [bridge_question(world, "qa") for _ in range(WARMUP_SIZES["bridge"])]
    return {
        "single": [{"question": asked.question, "answer": asked.answer} for asked in single],
        "bridge": [
            {
                "question": asked.question,
                "answer": asked.answer,
                "golden_passages": [world.passage(entity) for entity in asked.entities],
            }
            for asked in bridge
        ],
    }


def _single_questions(world: World, count: int, taken: dict[str, Entity]) -> list[tuple[str, str]]:
    questions: list[tuple[str, str]] = []
    while len(questions) < count:
        entity = world.entity()
        if _take([entity], taken):
            attribute = world.rng.choice(entity.attributes)
            questions.append((world.question(entity, attribute, "test"), entity.facts[attribute]))
    return questions


def _two_hop_questions(
    world: World, draw: Callable[[World, str], ReasonedQuestion], count: int, taken: dict[str, Entity]
) -> list[tuple[str, str]]:
    questions: list[tuple[str, str]] = []
    while len(questions) < count:
        two_hop = draw(world, "test")
        if _take(two_hop.entities, taken):
            questions.append((two_hop.question, two_hop.answer))
    return questions


def _take(entities: Sequence[Entity], taken: dict[str, Entity]) -> bool:
    """Put entities into `taken`, unless one of their names is there, or two have the same."""
    names = {entity.name for entity in entities}
    if len(names) < len(entities) or names & taken.keys():
        return False
    taken.update((entity.name, entity) for entity in entities)
    return True
