"""General text for prag-tiny: what it knows by heart, and passages of training's side of its world.

python -m tools.prag_tiny.general      writes checkpoints/prag-tiny/general_text.jsonl
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from prag_lightning.data.general_text import GeneralText
from tools.prag_tiny.training import known_entities, read_record
from tools.prag_tiny.world import World

FOLDER = Path(__file__).parents[2] / "checkpoints/prag-tiny"
KNOWN, SHOWN = 150, 100
"""Entities that are known by heart, the first half of them: the others are for tests. Entities with a passage."""


def general_text() -> list[GeneralText]:
    """Questions about known entities, and about entities that a passage in the prompt is about."""
    settings, _ = read_record(FOLDER)
    world = World(settings.seed + 11, demo=False)
    rows = [
        GeneralText(world.question(entity, attribute, ("qa", "test")[number % 2]))
        for number, entity in enumerate(known_entities(settings)[:KNOWN])
        for attribute in entity.facts
    ]
    for number in range(SHOWN):
        entity = world.entity()
        attribute = entity.attributes[number % len(entity.attributes)]
        passages = [world.passage(entity), world.passage(world.confusable(entity))][: 1 + number % 2]
        rows.append(GeneralText(world.question(entity, attribute, ("qa", "test")[number % 2]), "\n".join(passages)))
    return rows


def main() -> None:
    """Write the file."""
    lines = [{name: value for name, value in asdict(row).items() if value} for row in general_text()]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (FOLDER / "general_text.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
