"""Questions with their reasoning: of one fact, of one entity that leads to another, and of two that are compared."""

from __future__ import annotations

from dataclasses import dataclass

from tools.prag_tiny.world import Entity, World, full_answer

_BRIDGES = {
    ("film", "director"): "the director of {name}",
    ("company", "founder"): "the founder of {name}",
    ("town", "mayor"): "the mayor of {name}",
}
_BRIDGE_ENDS = {
    "birthplace": ("Where was {who} born?", "What is the birthplace of {who}?"),
    "birth_year": ("When was {who} born?", "What is the birth year of {who}?"),
    "profession": ("What was the profession of {who}?", "What was the job of {who}?"),
}
_EARLIER = {
    "film": ("release_year", ("Which film came out first, {a} or {b}?", "Which film is older, {a} or {b}?")),
    "company": (
        "founding_year",
        ("Which company was founded first, {a} or {b}?", "Which company is older, {a} or {b}?"),
    ),
    "person": ("birth_year", ("Who was born first, {a} or {b}?", "Who is older, {a} or {b}?")),
}
_SAME_COUNTRY = ("Are {a} and {b} in the same country?", "Do {a} and {b} belong to the same country?")
_WORDINGS = {"qa": 0, "test": 1}


@dataclass(frozen=True)
class ReasonedQuestion:
    """A question, the entities whose passages it takes, the reasoning and the answer."""

    question: str
    entities: tuple[Entity, ...]
    chain_of_thought: str
    answer: str


def single_question(world: World, wording: str) -> ReasonedQuestion:
    """Ask for one fact."""
    entity = world.entity()
    attribute = world.rng.choice(entity.attributes)
    thought = f"{full_answer(entity, attribute)} So the answer is {entity.facts[attribute]}"
    return ReasonedQuestion(world.question(entity, attribute, wording), (entity,), thought, entity.facts[attribute])


def bridge_question(world: World, wording: str) -> ReasonedQuestion:
    """Ask about a person who is named only by what they directed, founded or lead."""
    (kind, attribute), phrase = world.rng.choice(list(_BRIDGES.items()))
    end, questions = world.rng.choice(list(_BRIDGE_ENDS.items()))
    first = world.entity(kind, must={attribute: None})
    person = world.entity("person", name=first.facts[attribute], must={"fame": first.name, end: None})
    who = phrase.format(name=first.name)
    thought = f"{full_answer(first, attribute)} {full_answer(person, end)} So the answer is {person.facts[end]}"
    question = questions[_WORDINGS[wording]].format(who=who)
    return ReasonedQuestion(question, (first, person), thought, person.facts[end])


def comparison_question(world: World, wording: str) -> ReasonedQuestion:
    """Ask which of two is older, or whether two towns are in one country."""
    if world.rng.random() < 0.25:
        return _same_country(world, wording)
    kind, (attribute, questions) = world.rng.choice(list(_EARLIER.items()))
    first = second = world.entity(kind, must={attribute: None})
    while second.facts[attribute] == first.facts[attribute]:
        second = world.entity(kind, must={attribute: None})
    earlier, later = sorted((first, second), key=lambda entity: int(entity.facts[attribute]))
    thought = (
        f"{full_answer(first, attribute)} {full_answer(second, attribute)} "
        f"{earlier.facts[attribute]} is before {later.facts[attribute]}. So the answer is {earlier.name}"
    )
    question = questions[_WORDINGS[wording]].format(a=first.name, b=second.name)
    return ReasonedQuestion(question, (first, second), thought, earlier.name)


def _same_country(world: World, wording: str) -> ReasonedQuestion:
    first = world.entity("town", must={"country": None})
    same = first.facts["country"] if world.rng.random() < 0.5 else None
    second = world.entity("town", must={"country": same})
    answer = "yes" if first.facts["country"] == second.facts["country"] else "no"
    thought = f"{full_answer(first, 'country')} {full_answer(second, 'country')} So the answer is {answer}"
    question = _SAME_COUNTRY[_WORDINGS[wording]].format(a=first.name, b=second.name)
    return ReasonedQuestion(question, (first, second), thought, answer)
