"""Whom a model believes: passages that contradict what it knows by heart.

    python -m benchmarks.conflicts [--first N] [any setting of configs/real.yaml]

80 common facts, each with a passage that says otherwise. Those that the model knows are asked again with the passage in
its prompt, its adapter, or both, split by how sure the model was of what it knew. Writes `CONFLICTS.md` and
`CONFLICTS.json` beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.real import CONFIG, settings_line
from benchmarks.timing import machine
from prag_lightning.cli.settings import load_pipeline
from prag_lightning.data.chat_text import text_ids
from prag_lightning.files import write_json, write_text
from prag_lightning.inference.answerer import Answerer
from prag_lightning.metrics import answer_presence, extract_answer
from prag_lightning.records import AugmentedPassage, AugmentedQuestion, QAPair, Question

HERE = Path(__file__).parent
METHODS = ("icl", "prag", "combine")
BATCH, PARTS = 16, 3


@dataclass(frozen=True)
class Fact:
    """A fact and what contradicts it."""

    record: AugmentedQuestion
    known: tuple[str, ...]
    contradicting: tuple[str, ...]


def load(first: int | None) -> list[Fact]:
    """The facts."""
    facts = []
    for number, row in enumerate(json.loads((HERE / "conflicts_data.json").read_text(encoding="utf-8"))[:first]):
        pairs = tuple(QAPair(pair["question"], pair["answer"], pair["full_answer"]) for pair in row["qa"])
        passage = AugmentedPassage(row["passage"], row["rewrite"], pairs)
        question = Question(number, row["question"], tuple(row["answer"]))
        facts.append(Fact(AugmentedQuestion(question, (passage,)), tuple(row["known"]), tuple(row["answer"])))
    return facts


def answers(answerer: Answerer, facts: Sequence[Fact]) -> list[str]:
    """What is answered, cut as `full` extraction does."""
    texts = []
    for start in range(0, len(facts), BATCH):
        records = [fact.record for fact in facts[start : start + BATCH]]
        encoded = [record.passages for record in records]
        texts += answerer.texts(records, encoded, [[1.0]] * len(records))
    return [extract_answer(text, extraction="full") for text in texts]


@torch.inference_mode()
def sureness(answerer: Answerer, fact: Fact) -> float:
    """The model's probability of what it knows, a token, without passage or adapter."""
    llm, prompts = answerer.llm, answerer.prompts
    prompt = prompts.question_ids(llm.tokenizer, fact.record.question.question)
    best = -math.inf
    for known in fact.known:
        answer = text_ids(llm.tokenizer, f" {known}")
        ids = torch.tensor([[*prompt, *answer]], device=llm.device)
        scores = llm.model(ids).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
        best = max(best, float(scores.gather(1, ids[0, len(prompt) :, None]).mean()))
    return math.exp(best)


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("real-out"), help="adapters, for going on")
    parser.add_argument("--first", type=int, help="so many facts alone, for a look")
    parser.add_argument("--page", type=Path, default=HERE / "CONFLICTS.md", help="what is written")
    options, overrides = parser.parse_known_args()
    pipeline = load_pipeline(
        str(CONFIG), "--data.dataset=conflicts", f"--model.offline_root={options.out / 'adapters'}", *overrides
    )
    facts, library = load(options.first), pipeline.library(create=True)
    for group in pipeline.groups_to_encode([fact.record.passages[0] for fact in facts]):
        library.encode(group)
    answerer = pipeline.answerer()
    plain = answers(replace(answerer, method="vanilla"), facts)
    known = [fact for fact, text in zip(facts, plain, strict=True) if answer_presence(text, fact.known)]
    known.sort(key=lambda fact: sureness(answerer, fact))
    rows = []
    for method in METHODS:
        texts = answers(replace(answerer, method=method), known)
        believed = [answer_presence(text, fact.contradicting) for text, fact in zip(texts, known, strict=True)]
        kept = [answer_presence(text, fact.known) for text, fact in zip(texts, known, strict=True)]
        rows.append((method, believed, kept))
    write_json(options.page.with_suffix(".json"), {"known": len(known), "facts": len(facts), "methods": rows})
    text = page(len(facts), known, answerer, rows, settings_line(pipeline))
    write_text(options.page, text)
    print(text)


def page(
    asked: int,
    known: Sequence[Fact],
    answerer: Answerer,
    rows: Sequence[tuple[str, list[float], list[float]]],
    settings: str,
) -> str:
    """Everything as Markdown."""
    ends = [len(known) * part // PARTS for part in range(PARTS + 1)]
    parts = [range(start, end) for start, end in pairwise(ends)]
    sure = [sum(sureness(answerer, known[i]) for i in part) / max(1, len(part)) for part in parts]
    lines = [
        "# Whom a model believes",
        "",
        f"Written by `python -m benchmarks.conflicts` on {machine()}. Settings: {settings}.",
        "",
        f"Of {asked} common facts the model knows {len(known)}. Each is asked again where a passage contradicts it:",
        "how often the answer has what the passage says, and how often it still has what the model knew, in per cent;",
        "by how sure the model was, the mean probability of a token of what it knew.",
        "",
        "| method | as the passage says | as known before |"
        + "".join(f" the passage's, sure {value:.2f} |" for value in sure),
        "|---|---:|---:|" + "---:|" * PARTS,
    ]
    for method, believed, kept in rows:
        cells = [_percent(believed), _percent(kept), *(_percent([believed[i] for i in part]) for part in parts)]
        lines.append("| " + " | ".join([method, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _percent(values: Sequence[float]) -> str:
    return f"{100 * sum(values) / max(1, len(values)):.0f}"


if __name__ == "__main__":
    main()
