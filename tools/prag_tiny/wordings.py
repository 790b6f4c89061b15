"""How the made-up world is put into words: what is stated, asked and answered about each attribute.

`{name}` is the entity, `{value}` the attribute's value. `qa` wordings are those of the QA pairs that encode a passage,
`test` wordings those of the demo's questions: the two never share one.
"""

from __future__ import annotations

from dataclasses import dataclass


def words(text: str) -> tuple[str, ...]:
    """The words of a list that is written as one text."""
    return tuple(text.split())


@dataclass(frozen=True)
class Wordings:
    """Everything that is ever said about one attribute.

    Args:
        statements: Sentences of passages and rewrites; `{name}` may be a pronoun.
        qa: Questions of QA pairs.
        test: Questions of the demo's dataset.
        full_answer: The answer as a sentence.
    """

    statements: tuple[str, ...]
    qa: tuple[str, ...]
    test: tuple[str, ...]
    full_answer: str


WORDINGS: dict[str, dict[str, Wordings]] = {
    "person": {
        "birthplace": Wordings(
            (
                "{name} was born in {value}.",
                "{name} came into the world in {value}.",
                "{name} grew up in {value}, the place of birth.",
                "The town of {value} was the birthplace of {name}.",
            ),
            ("Where was {name} born?", "In which town was {name} born?"),
            ("What is the birthplace of {name}?", "Which town does {name} come from?"),
            "{name} was born in {value}.",
        ),
        "birth_year": Wordings(
            (
                "{name} was born in the year {value}.",
                "The birth of {name} was recorded in {value}.",
                "{value} was the year in which {name} was born.",
                "{name}, born {value}, was the youngest child.",
            ),
            ("When was {name} born?", "In which year was {name} born?"),
            ("What is the birth year of {name}?", "What year did {name} come into the world?"),
            "{name} was born in {value}.",
        ),
        "profession": Wordings(
            (
                "{name} worked as a {value}.",
                "{name} was a well known {value}.",
                "{name} made a living as a {value}.",
                "By profession {name} was a {value}.",
            ),
            ("What did {name} work as?", "What was the profession of {name}?"),
            ("What was {name}'s job?", "How did {name} make a living?"),
            "{name} worked as a {value}.",
        ),
        "spouse": Wordings(
            (
                "{name} married {value}.",
                "{name} was the spouse of {value}.",
                "{value} and {name} were married for many years.",
                "{name} shared a home with {value} after the wedding.",
            ),
            ("Who did {name} marry?", "Who was the spouse of {name}?"),
            ("Who was {name} married to?", "With whom did {name} share a marriage?"),
            "{name} married {value}.",
        ),
        "fame": Wordings(
            (
                "{name} is best known for {value}.",
                "{name} owes much fame to {value}.",
                "{value} made {name} famous.",
                "The name of {name} is tied to {value}.",
            ),
            ("What is {name} best known for?", "What made {name} famous?"),
            ("To what does {name} owe much fame?", "What is the name of {name} tied to?"),
            "{name} is best known for {value}.",
        ),
    },
    "film": {
        "director": Wordings(
            (
                "{name} was directed by {value}.",
                "{value} directed {name}.",
                "The director of {name} was {value}.",
                "{value} was in charge of making {name}.",
            ),
            ("Who directed {name}?", "Who was the director of {name}?"),
            ("By whom was {name} directed?", "Which director made {name}?"),
            "{name} was directed by {value}.",
        ),
        "release_year": Wordings(
            (
                "{name} came out in {value}.",
                "Cinemas first showed {name} in {value}.",
                "{name} was released in {value}.",
                "The first showing of {name} was in {value}.",
            ),
            ("When did {name} come out?", "In which year was {name} released?"),
            ("What is the release year of {name}?", "What year did cinemas first show {name}?"),
            "{name} came out in {value}.",
        ),
        "genre": Wordings(
            (
                "{name} is a {value}.",
                "Critics called {name} a {value}.",
                "{name} was filmed as a {value}.",
                "As a {value}, {name} drew large crowds.",
            ),
            ("What kind of film is {name}?", "What genre is {name}?"),
            ("What did critics call {name}?", "To which genre does {name} belong?"),
            "{name} is a {value}.",
        ),
        "location": Wordings(
            (
                "{name} was shot in {value}.",
                "The scenes of {name} were filmed in {value}.",
                "{value} was the place where {name} was made.",
                "{name} was filmed in the streets of {value}.",
            ),
            ("Where was {name} shot?", "In which town was {name} filmed?"),
            ("What is the filming location of {name}?", "Which town served as the set of {name}?"),
            "{name} was shot in {value}.",
        ),
    },
    "company": {
        "founder": Wordings(
            (
                "{name} was founded by {value}.",
                "{value} founded {name}.",
                "The founder of {name} was {value}.",
                "{name} was started by {value}.",
            ),
            ("Who founded {name}?", "Who was the founder of {name}?"),
            ("By whom was {name} started?", "Which person set up {name}?"),
            "{name} was founded by {value}.",
        ),
        "founding_year": Wordings(
            (
                "{name} was founded in {value}.",
                "{name} opened its doors in {value}.",
                "The year {value} saw the start of {name}.",
                "{name} has been in business since {value}.",
            ),
            ("When was {name} founded?", "In which year was {name} founded?"),
            ("What is the founding year of {name}?", "Since what year has {name} been in business?"),
            "{name} was founded in {value}.",
        ),
        "headquarters": Wordings(
            (
                "{name} is based in {value}.",
                "The headquarters of {name} are in {value}.",
                "{name} has its main office in {value}.",
                "{value} is home to the main office of {name}.",
            ),
            ("Where is {name} based?", "In which town are the headquarters of {name}?"),
            ("What town is home to {name}?", "Where does {name} have its main office?"),
            "{name} is based in {value}.",
        ),
        "product": Wordings(
            (
                "{name} makes {value}.",
                "{name} is known for its {value}.",
                "The main product of {name} is {value}.",
                "{name} sells {value} to many countries.",
            ),
            ("What does {name} make?", "What is the main product of {name}?"),
            ("What is {name} known for?", "Which goods does {name} sell?"),
            "{name} makes {value}.",
        ),
    },
    "town": {
        "country": Wordings(
            (
                "{name} is a town in {value}.",
                "{name} lies in {value}.",
                "{name} belongs to {value}.",
                "In the north of {value} lies {name}.",
            ),
            ("In which country is {name}?", "What country does {name} lie in?"),
            ("Which country does {name} belong to?", "What is the country of {name}?"),
            "{name} is a town in {value}.",
        ),
        "river": Wordings(
            (
                "{name} stands on the river {value}.",
                "The river {value} flows through {name}.",
                "{name} was built on the banks of the {value}.",
                "Boats on the {value} stop at {name}.",
            ),
            ("On which river does {name} stand?", "Which river flows through {name}?"),
            ("What is the river of {name}?", "On the banks of what river was {name} built?"),
            "{name} stands on the river {value}.",
        ),
        "mayor": Wordings(
            (
                "{name} is led by mayor {value}.",
                "The mayor of {name} is {value}.",
                "{value} was elected mayor of {name}.",
                "{value} heads the council of {name}.",
            ),
            ("Who is the mayor of {name}?", "Who was elected mayor of {name}?"),
            ("Who leads {name}?", "Which person heads the council of {name}?"),
            "The mayor of {name} is {value}.",
        ),
        "craft": Wordings(
            (
                "{name} is famous for its {value}.",
                "Visitors come to {name} for its {value}.",
                "The {value} of {name} has a long tradition.",
                "Workshops in {name} turn out {value}.",
            ),
            ("What is {name} famous for?", "What do visitors come to {name} for?"),
            ("Which goods have a long tradition in {name}?", "What do the workshops of {name} turn out?"),
            "{name} is famous for its {value}.",
        ),
    },
}
"""Wordings by kind of entity and attribute."""

COUNTRIES = words(
    "Arvenia Belmark Corvana Dastria Elandor Farrow Galdia Harvost Istria Jorvania Kestria Lumeria Mordania Nordelia "
    "Ostrava Pelland Quorra Rethia Solvania Tarkland Ulmeria Vardonia Westria Xandria Yelland Zembria Ardalia Bresland "
    "Caldoria Dunmark"
)
"""Where towns lie."""

PROFESSIONS = words(
    "painter baker lawyer doctor sailor teacher miner singer farmer pilot tailor weaver judge banker gardener "
    "printer potter dancer poet chemist soldier surgeon carpenter blacksmith astronomer photographer journalist "
    "librarian watchmaker translator"
)
"""What people work as."""

GENRES = words(
    "comedy tragedy western thriller musical romance mystery satire fantasy melodrama documentary horror-film "
    "war-film spy-film road-film crime-film ghost-story fairy-tale cartoon parody biography sea-story "
    "courtroom-drama family-saga"
)
"""What films are."""

GOODS = words(
    "lamps boots clocks carpets pianos bicycles candles knives cheese paper glass mirrors umbrellas ropes saddles "
    "violins toys pottery soap gloves honey hats furniture tea chocolate silk barrels needles maps lace"
)
"""What companies make and towns are famous for."""
