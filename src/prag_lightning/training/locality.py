"""Questions about other things: what an adapter is to leave as it was."""

from __future__ import annotations

import random
import re
import unicodedata
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from prag_lightning.records import QAPair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_WORD = re.compile(r"\w+")


class Renamer:
    """Puts other names in place of those in a question, made of the tokenizer's own pieces, so that no other data is
    needed and a passage's examples depend on nothing but the passage.

    Args:
        tokenizer: Whose pieces names are made of.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def rename(self, pair: QAPair, passage: str, number: int) -> QAPair | None:
        """The pair about something else, or `None` where the question names nothing that the passage does.

        Names are the question's words that stand in the passage and have a capital or a digit, or if there are none
        all that stand in it. At least one of them is changed, in question and answers alike: often others stay, for
        what an adapter must be told from first is things with names alike.

        Args:
            pair: About the passage.
            passage: The text.
            number: Another gives other names.

        >>> from transformers import AutoTokenizer
        >>> renamer = Renamer(AutoTokenizer.from_pretrained("checkpoints/prag-tiny"))
        >>> pair = QAPair("Where was Paula Zalville born?", "North Walton", "Paula Zalville was born in North Walton.")
        >>> other = renamer.rename(pair, "Paula Zalville was born in North Walton.", 0)
        >>> other.question == pair.question, other.question.startswith("Where was "), other.answer
        (False, True, 'North Walton')
        """
        stated = set(_WORD.findall(passage))
        shared = [word for word in dict.fromkeys(_WORD.findall(pair.question)) if word in stated]
        names = [word for word in shared if any(c.isupper() or c.isdigit() for c in word)] or shared
        if not names:
            return None
        rng = random.Random(f"{number} {pair.question} {passage}".encode("utf-8", "surrogatepass"))
        others = {name: self._another(name, rng) for name in rng.sample(names, rng.randint(1, len(names)))}

        def renamed(text: str) -> str:
            return _WORD.sub(lambda match: others.get(match[0], match[0]), text)

        other = replace(pair, question=renamed(pair.question), full_answer=renamed(pair.full_answer))
        return None if other.question == pair.question else other

    def _another(self, name: str, rng: random.Random) -> str:
        ids = self.tokenizer(f" {name}", add_special_tokens=False)["input_ids"]
        pieces = [str(self.tokenizer.decode([i])) for i in ids]
        return "".join(rng.choice(self._alike.get(_shape(piece), [piece])).strip() for piece in pieces)

    @cached_property
    def _alike(self) -> dict[tuple[str, ...], list[str]]:
        """The tokenizer's pieces that are letters or digits alone, by their shape."""
        alike: dict[tuple[str, ...], list[str]] = {}
        for i in range(len(self.tokenizer)):
            piece = str(self.tokenizer.decode([i]))
            if piece.strip().isalnum():
                alike.setdefault(_shape(piece), []).append(piece)
        return alike


def _shape(piece: str) -> tuple[str, ...]:
    """Whether a word begins with it, in which script, and how."""
    first = piece.strip()[:1]
    script = unicodedata.name(first, "").split(" ")[0] if first else ""
    return (str(piece[:1].isspace()), script, str(first.isupper()), str(first.isdigit()))
