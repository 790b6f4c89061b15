"""Made-up names, each either for training or for the demo, never for both.

They are put together of a few hundred parts, so that a model of millions of parameters can learn every part well: what
is new about a new name is how they go together.
"""

from __future__ import annotations

import hashlib
import random
from itertools import count

from tools.prag_tiny.wordings import words

FIRST_NAMES = words(
    "Ada Alma Anton Arno Bela Bruno Carla Clemens Cora Dario Delia Edgar Elsa Emil Enid Erik Fania Felix Flora "
    "Gerda Gideon Greta Hanna Hugo Ida Igor Irma Ivo Jana Jonas Julia Karl Katja Klara Konrad Lea Leon Lidia "
    "Linus Lotte Magda Marek Maria Milan Mona Nadia Nils Nora Olaf Olga Oskar Otto Paula Petra Rafael Rosa Rufus "
    "Selma Simon Sofia Stefan Tamara Theo Tilda Ugo Ulla Vera Viktor Wanda Werner Xenia Yara Yuri Zelda Zoran"
)
_BEGINNINGS = words(
    "Ald Arn Bar Bel Ber Bol Bran Brom Cal Cor Cran Dal Dar Del Dor Drum Eld Fal Fen Fer Gal Gar Gel Gor Gran Hal Har "
    "Hel Hol Hur Jal Jor Kal Kel Ker Kol Kron Lam Lar Len Lor Lund Mal Mar Mel Mor Nal Ned Nor Old Or Pal Pel Per Pol "
    "Ral Ren Rol Rus Sal Sel Ser Sol Stan Sten Tal Tar Tel Tor Tran Tul Ul Val Var Ver Vol Wal Wel Wol Zal Zer Zol"
)
_SURNAME_ENDINGS = words(
    "aker ander bach bald beck bert brand cott din dorf eson feld fried gard gren hart heim holt inger isson kamp kin "
    "land lein lind ling lov man mark mond ner nick quist rath rich ring rop sen shaw sky ster strom sworth thal thorn "
    "trup ville vin vist wald wart wen worth zak"
)
_TOWN_ENDINGS = words(
    "bridge burg bury by cester dale den field ford gate ham haven hill hurst ley mere minster moor mouth ness pool "
    "port stad stead stow ton vale wick wood"
)
_TOWN_PREFIXES = words("East Great High Little Low New North Old South West")
_RIVER_ENDINGS = words("a e o is une")
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
_TRIES = 100
"""Names that share a word with another before any name will do: a side may have none."""
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
        for tries in count():
            name = self._draw(kind, like if tries < _TRIES else None)
            if name != like and is_for_demo(name) == self.demo:
                return name
        raise AssertionError

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
            if len(words) == 2:
                return f"{words[0]} {self._town()}" if keep_first else f"{self.rng.choice(_TOWN_PREFIXES)} {words[1]}"
            base = words[0] if words else self._town()
            return f"{self.rng.choice(_TOWN_PREFIXES)} {base}" if words or self.rng.random() < 0.5 else base
        if kind == "river":
            return self.rng.choice(_BEGINNINGS) + self.rng.choice(_RIVER_ENDINGS)
        raise ValueError(f"no kind of entity is called {kind!r}")

    def _surname(self) -> str:
        return self.rng.choice(_BEGINNINGS) + self.rng.choice(_SURNAME_ENDINGS)

    def _town(self) -> str:
        return self.rng.choice(_BEGINNINGS) + self.rng.choice(_TOWN_ENDINGS)
