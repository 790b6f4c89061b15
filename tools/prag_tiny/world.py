"""The made-up world: entities with facts, passages about them, rewrites, and questions."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from prag_lightning.records import AugmentedPassage, QAPair
from tools.prag_tiny.names import Names
from tools.prag_tiny.wordings import COUNTRIES, GENRES, GOODS, PROFESSIONS, WORDINGS

KINDS = tuple(WORDINGS)
FACTS_PER_PASSAGE = 3
YEARS = range(1850, 2000)
_VALUE_KINDS = {
    "birthplace": "town",
    "location": "town",
    "headquarters": "town",
    "spouse": "person",
    "director": "person",
    "founder": "person",
    "mayor": "person",
    "river": "river",
}
_VALUE_LISTS = {"profession": PROFESSIONS, "genre": GENRES, "product": GOODS, "craft": GOODS, "country": COUNTRIES}


@dataclass(frozen=True)
class Entity:
    """Something in the world.

    Args:
        kind: One of `KINDS`.
        name: Unique enough to be asked about.
        facts: Value by attribute; a passage about it states all of them.
        pronoun: What later sentences may call it.
    """

    kind: str
    name: str
    facts: dict[str, str]
    pronoun: str

    @property
    def attributes(self) -> tuple[str, ...]:
        """What is known of it, in the order in which QA pairs ask for it."""
        return tuple(self.facts)


class World:
    """Draws entities, and what is written about them.

    Args:
        seed: Decides everything.
        demo: Draw from the demo's names; otherwise from training's.
    """

    def __init__(self, seed: int, *, demo: bool) -> None:
        self.rng = random.Random(f"{seed} {demo}")
        self.names = Names(self.rng, demo=demo)

    def entity(
        self, kind: str | None = None, *, name: str | None = None, must: Mapping[str, str | None] | None = None
    ) -> Entity:
        """A new entity.

        Args:
            kind: One of `KINDS`; any of them if unset.
            name: Drawn if unset.
            must: Attributes that it must have, with their values; `None` draws one.
        """
        kind = kind or self.rng.choice(KINDS)
        needed = dict(must or {})
        others = [attribute for attribute in WORDINGS[kind] if attribute not in needed]
        attributes = [*needed, *self.rng.sample(others, FACTS_PER_PASSAGE - len(needed))]
        self.rng.shuffle(attributes)
        facts = {attribute: needed.get(attribute) or self._value(attribute) for attribute in attributes}
        pronoun = self.rng.choice(("He", "She")) if kind == "person" else "It"
        return Entity(kind, name or self.names.draw(kind), facts, pronoun)

    def confusable(self, entity: Entity) -> Entity:
        """Another entity of the same kind whose name shares a word with this one's, where names have several."""
        return self.entity(entity.kind, name=self.names.draw(entity.kind, like=entity.name))

    def _value(self, attribute: str) -> str:
        if attribute == "fame":
            return self.names.draw(self.rng.choice(("film", "company", "town")))
        if attribute in _VALUE_KINDS:
            return self.names.draw(_VALUE_KINDS[attribute])
        if attribute in _VALUE_LISTS:
            return self.rng.choice(_VALUE_LISTS[attribute])
        return str(self.rng.choice(YEARS))

    def passage(self, entity: Entity, unlike: str = "", pronouns: float = 0.7) -> str:
        """A sentence a fact, in order; the first has the entity's name, later ones often a pronoun.

        Args:
            entity: What it is about.
            unlike: A text whose sentences are not used again.
            pronouns: The share of later sentences that begin with one, of those that can.
        """
        names, sentences = (entity.name, entity.pronoun), []
        for position, (attribute, value) in enumerate(entity.facts.items()):
            statements = WORDINGS[entity.kind][attribute].statements
            fresh = [s for s in statements if not any(s.format(name=name, value=value) in unlike for name in names)]
            statement = self.rng.choice(fresh)
            short = position > 0 and statement.startswith("{name} ") and self.rng.random() < pronouns
            sentences.append(statement.format(name=names[short], value=value))
        return " ".join(sentences)

    def question(self, entity: Entity, attribute: str, wording: str) -> str:
        """Ask for an attribute in one of its `qa` or `test` wordings."""
        return str(self.rng.choice(getattr(WORDINGS[entity.kind][attribute], wording))).format(name=entity.name)

    def qa_pairs(self, entity: Entity) -> tuple[QAPair, ...]:
        """A QA pair for each fact, as the LLM is to write them."""
        return tuple(
            QAPair(self.question(entity, attribute, "qa"), value, full_answer(entity, attribute))
            for attribute, value in entity.facts.items()
        )

    def augmented(self, entity: Entity) -> AugmentedPassage:
        """A passage with the rewrite and QA pairs that a perfect LLM would write."""
        passage = self.passage(entity)
        return AugmentedPassage(passage, self.passage(entity, unlike=passage), self.qa_pairs(entity))


def full_answer(entity: Entity, attribute: str) -> str:
    """The answer as a sentence."""
    wordings = WORDINGS[entity.kind][attribute]
    return wordings.full_answer.format(name=entity.name, value=entity.facts[attribute])
