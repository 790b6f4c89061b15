"""Scores of one answer: extraction, normalisation and overlap as published. No torch."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from prag_lightning.records import nfc

Extraction = Literal["paper", "full"]

COT_MARK = "the answer is"
_CLASS_ANSWERS = frozenset({"yes", "no", "noanswer"})
_SENTENCE_END = re.compile(
    r"(?<!\b[A-Za-z])(?<!\b(?:St|Mt|Dr|Mr|Ms|Jr|Sr|vs))(?<!\b(?:Mrs|Gen))\.(?=\s+[A-Z\"'(]|\s*$)|\u3002"
)


def extract_answer(text: str, with_cot: bool = False, extraction: Extraction = "paper") -> str:
    """The answer within a generated text.

    Args:
        text: What the model wrote after the assistant's prefix.
        with_cot: Take what follows the first "the answer is", if it is there.
        extraction: `paper` strips and cuts at the first full stop, then line break, then comma. `full` keeps the
            first line and cuts it where a sentence ends: at a full stop before white space and a capital, or at the
            end, that does not follow a single letter or a title such as "St" ("No." ends a sentence: it is an answer),
            or at an ideographic full stop.
    """
    if with_cot and COT_MARK in text:
        text = text.split(COT_MARK, 1)[1]
    text = text.strip()
    if extraction == "full":
        return _SENTENCE_END.split(text.split("\n", 1)[0], maxsplit=1)[0].strip()
    for mark in (".", "\n", ","):
        text = text.split(mark, 1)[0].strip()
    return text


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation, then without articles, white space folded (SQuAD's evaluation); composed
    characters (NFC), so that an é is an é."""
    text = "".join(char for char in nfc(text).lower() if char not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1 if the normalised prediction is a normalised gold answer, else 0."""
    return float(any(normalize_answer(prediction) == normalize_answer(answer) for answer in answers))


def is_out_of_reach(answers: Sequence[str], extraction: Extraction) -> bool:
    """Whether no gold answer counts as right even if it is given word for word, since it is cut: `paper` makes
    "Washington" of "Washington, D.C."."""
    return bool(answers) and not any(
        exact_match(extract_answer(answer, extraction=extraction), answers) for answer in answers
    )


def token_overlap(prediction: str, answer: str) -> tuple[float, float, float]:
    """F1, precision and recall of normalised words; all 0 where no word is shared, or yes meets something else."""
    predicted, gold = normalize_answer(prediction), normalize_answer(answer)
    if predicted != gold and (predicted in _CLASS_ANSWERS or gold in _CLASS_ANSWERS):
        return 0.0, 0.0, 0.0
    shared = sum((Counter(predicted.split()) & Counter(gold.split())).values())
    if shared == 0:
        return 0.0, 0.0, 0.0
    precision, recall = shared / len(predicted.split()), shared / len(gold.split())
    return 2 * precision * recall / (precision + recall), precision, recall


def answer_presence(text: str, answer: str | Sequence[str]) -> float:
    """1 if a normalised gold answer stands in the normalised text as whole words, else 0."""
    words = f" {normalize_answer(text)} "
    golds = (normalize_answer(alias) for alias in _aliases(answer))
    return float(any(gold and f" {gold} " in words for gold in golds))


def evaluate(
    text: str, answer: str | Sequence[str], with_cot: bool = False, answer_extraction: Extraction = "paper"
) -> dict[str, str | float]:
    """Score one generated text as published.

    Args:
        text: What the model wrote.
        answer: The gold answer, or its aliases; each score is the best over them.
        with_cot: The text is a chain of thought.
        answer_extraction: See `extract_answer`.

    Returns:
        `eval_predict` (what was scored), and `em`, `f1`, `prec`, `recall` in 0..1.
    """
    aliases = _aliases(answer)
    prediction = extract_answer(text, with_cot, answer_extraction)
    overlaps = [token_overlap(prediction, alias) for alias in aliases] or [(0.0, 0.0, 0.0)]
    f1, precision, recall = (max(values) for values in zip(*overlaps, strict=True))
    em = exact_match(prediction, aliases)
    return {"eval_predict": prediction, "em": em, "f1": f1, "prec": precision, "recall": recall}


def _aliases(answer: str | Sequence[str]) -> list[str]:
    return [answer] if isinstance(answer, str) else list(answer)
