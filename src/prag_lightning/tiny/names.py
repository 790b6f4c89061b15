"""Made-up names, each either for training or for the demo, never for both."""

from __future__ import annotations

import hashlib
import random

from prag_lightning.tiny.wordings import words

FIRST_NAMES = words(
    "Ada Alma Anton Arno Bela Bruno Carla Clemens Cora Dario Delia Edgar Elsa Emil Enid Erik Fania Felix Flora "
    "Gerda Gideon Greta Hanna Hugo Ida Igor Irma Ivo Jana Jonas Julia Karl Katja Klara Konrad Lea Leon Lidia "
    "Linus Lotte Magda Marek Maria Milan Mona Nadia Nils Nora Olaf Olga Oskar Otto Paula Petra Rafael Rosa Rufus "
    "Selma Simon Sofia Stefan Tamara Theo Tilda Ugo Ulla Vera Viktor Wanda Werner Xenia Yara Yuri Zelda Zoran"
)
_ONSETS = words("b br d dr f g gr h j k kr l m n p pr r s st t tr v w z")
_VOWELS = words("a e i o u")
_CODAS = words("l ld lm m n nd nt r rk rn s st t x")
_TOWN_ENDINGS = words("burg dale ford ham haven mere moor ness stad stow ton wick")
_ADJECTIVES = words(
    "Amber Bitter Blue Broken Burning Crimson Distant Empty Endless Fading Frozen Gentle Golden Green Hidden Hollow "
    "Iron Ivory Last Little Lonely Lost Narrow Pale Quiet Red Restless Secret Seventh Silent Silver Sleeping Stolen "
    "Tender Velvet Wandering White Wild Winter Yellow"
)
_NOUNS = words(
    "Anchor Arrow Bell Bridge Candle Castle Crown Curtain Door Feather Fire Forest Fountain Garden Gate Guest Harbour "
    "Horizon House Island Journey Key Lantern Letter Mask Meadow Mirror Moon Mountain Ocean Orchard Palace Picture "
    "Promise Rain Ring River Road Rose Sailor Season Shadow Shore Song Stair Star Storm Stranger Summer Tower Train "
    "Valley Village Voice Voyage Wall Waltz Water Widow Window"
)
_TRADES = words(
    "Bakery Brewery Brothers Company Factory Foundry Group House Mills Partners Press Sons Studio Trading Works"
)
DEMO_SHARE = 5
"""One name in so many is kept for the demo."""


def is_for_demo(name: str) -> bool:
    """Whether a name belongs to the demo: decided by the name itself, so that training can never meet it."""
    return hashlib.sha256(name.encode()).digest()[0] % DEMO_SHARE == 0


class Names:
    """Draws names of one of the two sides.

    Args:
        rng: Where they are drawn from.
        demo: Draw names of the demo; otherwise of training.
    """

    def __init__(self, rng: random.Random, *, demo: bool) -> None:
        self.rng, self.demo = rng, demo

    def draw(self, kind: str, like: str | None = None) -> str:
        """A name for an entity of `kind`; one confusable with `like`, sharing a word with it, if that is given."""
        while True:
            name = self._draw(kind, like)
            if name != like and is_for_demo(name) == self.demo:
                return name

    def _draw(self, kind: str, like: str | None) -> str:
        words = like.split() if like else []
        keep_first = bool(words) and self.rng.random() < 0.5
        if kind == "person":
            first = words[0] if keep_first else self.rng.choice(FIRST_NAMES)
            return f"{first} {words[1] if words and not keep_first else self._surname()}"
        if kind == "film":
            adjective = words[1] if keep_first else self.rng.choice(_ADJECTIVES)
            return f"The {adjective} {words[2] if words and not keep_first else self.rng.choice(_NOUNS)}"
        if kind == "company":
            surname = words[0] if keep_first else self._surname()
            return f"{surname} {words[1] if words and not keep_first else self.rng.choice(_TRADES)}"
        if kind == "town":
            return self._syllable().capitalize() + self.rng.choice(_VOWELS) + self.rng.choice(_TOWN_ENDINGS)
        if kind == "river":
            return self._syllable().capitalize() + self.rng.choice(_VOWELS)
        raise ValueError(f"no kind of entity is called {kind!r}")

    def _surname(self) -> str:
        return self._syllable().capitalize() + self._syllable()

    def _syllable(self) -> str:
        return self.rng.choice(_ONSETS) + self.rng.choice(_VOWELS) + self.rng.choice(_CODAS)
