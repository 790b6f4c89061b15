"""Whether a model knows that it does not know: questions whose passages have been taken out of the corpus.

    python -m benchmarks.confidence [--passages N] [any setting of configs/real.yaml]

Of the first N passages of Ostrane every second one is taken out, and the people's questions about all N are asked. Says
how well each measure of confidence tells questions with an answer in the corpus from those without, and right answers
from wrong ones, and what a threshold that was chosen on one half of the questions does to the other. An interrupted run
goes on where it was. Writes `CONFIDENCE.md` and `CONFIDENCE.json` beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.real import CONFIG, ROOT, settings_line
from benchmarks.timing import machine
from prag_lightning.cli.settings import load_pipeline
from prag_lightning.files import write_json, write_text
from prag_lightning.inference.answerer import Answerer, Row
from prag_lightning.journal import Journal
from prag_lightning.metrics import evaluate
from prag_lightning.records import AugmentedQuestion, Question

HERE = Path(__file__).parent
OSTRANE = ROOT / "data/ostrane"
METHODS = ("prag", "icl", "combine")
MEASURES = ("log-probability", "margin", "retrieval score")
COMBINED = "all three"
PASSAGES = 22
BATCH, DRAWS = 16, 2000
CHOSEN = "log-probability"


@dataclass(frozen=True)
class Asked:
    """A question and what became of it.

    Args:
        half: `dev`, which thresholds are chosen on, or `test`.
        answerable: Whether all its passages are in the corpus.
        em: Of the answer, 0 or 1.
        f1: Of the answer.
        measures: By name.
    """

    half: str
    answerable: bool
    em: float
    f1: float
    measures: dict[str, float]


def load(passages: int, out: Path) -> tuple[Path, list[Question], list[tuple[str, bool]], list[set[str]]]:
    """The corpus with half of the passages, the questions about all of them, of each question its half and whether it
    can be answered, and the texts of its passages."""
    heading, *rows = (OSTRANE / "corpus.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    ids = [row.partition("\t")[0] for row in rows[:passages]]
    corpus = out / f"confidence-{passages}.tsv"
    write_text(corpus, "".join([heading, *rows[:passages:2]]))
    texts = {row.split("\t")[0]: row.split("\t")[1] for row in rows}
    questions: list[Question] = []
    kinds: list[tuple[str, bool]] = []
    golds: list[set[str]] = []
    for half in ("dev", "test"):
        for row in json.loads((OSTRANE / f"questions/{half}.json").read_text(encoding="utf-8")):
            if set(row["gold"]) <= set(ids):
                questions.append(Question(len(questions), row["question"], tuple(row["answer"])))
                kinds.append((half, set(row["gold"]) <= set(ids[::2])))
                golds.append({texts[name] for name in row["gold"]})
    return corpus, questions, kinds, golds


def ask(answerer: Answerer, records: Sequence[AugmentedQuestion], scores: Sequence[float], out: Path) -> list[Row]:
    """The answers to questions, with how sure the model is of them."""
    answerer = replace(answerer, abstain_below=-math.inf)
    journal, rows = Journal(out / "answers/confidence"), []
    for start in range(0, len(records), BATCH):
        batch = records[start : start + BATCH]
        found = [[score] for score in scores[start : start + BATCH]]
        answers = answerer.answer(batch, journal, scores=found)
        plain = replace(answerer, method="vanilla", adapters=None)
        prior = plain.log_probabilities(batch, [row["text"] for row in answers], [()] * len(batch), [()] * len(batch))
        rows += [{**row, "prior": value} for row, value in zip(answers, prior, strict=True)]
    return rows


def auroc(values: Tensor, positive: Tensor) -> tuple[float, float]:
    """How often a positive has a greater value than a negative, ties counting half, and half of a bootstrap 95 %
    interval.

    Args:
        values: `[N]`.
        positive: `[N]`, of truth values.
    """
    above, below = values[positive], values[~positive]
    wins = (above[:, None] > below).double() + 0.5 * (above[:, None] == below).double()
    generator = torch.Generator().manual_seed(0)
    draws = []
    for _ in range(DRAWS):
        rows = torch.randint(len(above), (len(above),), generator=generator)
        columns = torch.randint(len(below), (len(below),), generator=generator)
        draws.append(wins[rows][:, columns].mean())
    low, high = torch.stack(draws).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return float(wins.mean()), float(high - low) / 2


def combined(features: Tensor, answerable: Tensor, fitted: Tensor) -> Tensor:
    """What logistic regression on the standardised features, fitted on some of the rows, gives for each, `[N]`."""
    centred = (features - features[fitted].mean(0)) / features[fitted].std(0)
    weight = torch.zeros(features.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def logits() -> Tensor:
        return centred @ weight[1:] + weight[0]

    def loss() -> Tensor:
        optimiser.zero_grad()
        target = answerable[fitted].double()
        value = torch.nn.functional.binary_cross_entropy_with_logits(logits()[fitted], target)
        value = value + 0.01 * weight[1:].square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return logits().detach()


def best_threshold(values: Tensor, positive: Tensor) -> float:
    """The value from which on questions are answered so that the share of positives answered exceeds that of negatives
    by the most (Youden's J)."""

    def gain(threshold: float) -> float:
        answered = values >= threshold
        return float(answered[positive].double().mean() - answered[~positive].double().mean())

    return max(values.tolist(), key=gain)


def column(asked: Sequence[Asked], name: str) -> Tensor:
    """A measure of each question, `[N]`."""
    return torch.tensor([each.measures[name] for each in asked], dtype=torch.float64)


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("real-out"), help="adapters and answers, for going on")
    parser.add_argument("--passages", type=int, default=PASSAGES, help="of the corpus, before half is taken out")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--page", type=Path, default=HERE / "CONFIDENCE.md", help="what is written")
    options, overrides = parser.parse_known_args()
    options.out.mkdir(parents=True, exist_ok=True)
    corpus, questions, kinds, golds = load(options.passages, options.out)
    pipeline = load_pipeline(
        str(CONFIG),
        f"--data.corpus={corpus}",
        f"--model.offline_root={options.out / 'adapters'}",
        "--data.topk=1",
        f"--model.inference_method={options.methods[0]}",
        *overrides,
    )
    records = pipeline.on_demand().passages(questions)
    scores = [sum(found) for found in pipeline.data.scores(records, [record.passages for record in records])]
    answerer = pipeline.answerer()
    results = {}
    for method in options.methods:
        rows = ask(replace(answerer, method=method), records, scores, options.out)
        results[method] = [
            _asked(row, record, kind, score)
            for row, record, kind, score in zip(rows, records, kinds, scores, strict=True)
        ]
    first = [record.passages[0].passage if record.passages else "" for record in records]
    found = sum(answerable and text in gold for text, (_, answerable), gold in zip(first, kinds, golds, strict=True))
    command = " ".join(["python -m benchmarks.confidence", *_given(options)])
    text = page(results, command, found, settings_line(pipeline))
    write_json(
        options.page.with_suffix(".json"), {name: [asdict(each) for each in asked] for name, asked in results.items()}
    )
    write_text(options.page, text)
    print(text)


def _given(options: argparse.Namespace) -> list[str]:
    """What decides the page, as it was given."""
    passages = [] if options.passages == PASSAGES else [f"--passages {options.passages}"]
    return passages + ([] if tuple(options.methods) == METHODS else [f"--methods {' '.join(options.methods)}"])


def _asked(row: Row, record: AugmentedQuestion, kind: tuple[str, bool], score: float) -> Asked:
    found = evaluate(row["text"], list(record.question.answers), answer_extraction="full")
    values = (row["log_probability"], row["log_probability"] - row["prior"], score)
    return Asked(*kind, float(found["em"]), float(found["f1"]), dict(zip(MEASURES, values, strict=True)))


def page(results: Mapping[str, Sequence[Asked]], command: str, found: int, settings: str) -> str:
    """Everything as Markdown."""
    first = next(iter(results.values()))
    with_answer = sum(each.answerable for each in first)
    halves = " and ".join(f"{sum(each.half == half for each in first)} of `{half}`" for half in ("dev", "test"))
    lines = [
        "# Whether a model knows that it does not know",
        "",
        f"Written by `{command}` on {machine()}. Settings: {settings}.",
        "",
        f"{len(first)} people's questions ({halves}) about passages of [Ostrane](../data/ostrane/README.md), of which",
        f"every second one has been taken out of the corpus: {with_answer} still have their answer in it, "
        f"{len(first) - with_answer} have not.",
        f"Each is answered from the passage that BM25 finds first, which is the right one for {found} of those with an",
        "answer.",
        "",
        "## Telling them apart",
        "",
        "AUROC: how often a question of the one kind has a greater value than one of the other; 0.5 is chance. ± is",
        f"half of a bootstrap 95 % interval. *{COMBINED}* is logistic regression on the three, fitted on `dev` to tell",
        "questions with an answer from those without, so that `test` alone says what it is worth.",
        "",
        "| method | measure | answer in the corpus or not | right or wrong | in the corpus, `test` | right, `test` |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for method, asked in results.items():
        lines += _auroc_rows(method, asked)
    lines += ["", *_threshold_lines(results)]
    return "\n".join(lines) + "\n"


def _auroc_rows(method: str, asked: Sequence[Asked]) -> list[str]:
    answerable = torch.tensor([each.answerable for each in asked])
    right = torch.tensor([each.em > 0 for each in asked])
    fitted = torch.tensor([each.half == "dev" for each in asked])
    columns = {name: column(asked, name) for name in MEASURES}
    columns[COMBINED] = combined(torch.stack(list(columns.values()), 1), answerable, fitted)
    lines = []
    for name, values in columns.items():
        on_test = [_cell(values[~fitted], kind[~fitted]) for kind in (answerable, right)]
        on_all = [_cell(values, kind) for kind in (answerable, right)] if name != COMBINED else ["", ""]
        lines.append("| " + " | ".join([method, name, *on_all, *on_test]) + " |")
    return lines


def _cell(values: Tensor, positive: Tensor) -> str:
    if positive.all() or not positive.any():
        return "–"
    value, half_width = auroc(values, positive)
    return f"{value:.2f} ± {half_width:.2f}"


def _threshold_lines(results: Mapping[str, Sequence[Asked]]) -> list[str]:
    lines = [
        f"## A threshold on the {CHOSEN}",
        "",
        "Chosen on `dev`: where the share of right answers that are given exceeds that of wrong ones most. On `test`:",
        "",
        "| method | threshold, nats a token | answered, of those with an answer | of those without | EM of all "
        "| EM of answered | right answers kept |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for method, asked in results.items():
        dev, test = ([each for each in asked if each.half == half] for half in ("dev", "test"))
        threshold = best_threshold(column(dev, CHOSEN), torch.tensor([each.em > 0 for each in dev]))
        given = [each for each in test if each.measures[CHOSEN] >= threshold]
        cells = [
            *(_share([each in given for each in test if each.answerable is kind]) for kind in (True, False)),
            _share([each.em > 0 for each in test]),
            _share([each.em > 0 for each in given]),
            _share([each in given for each in test if each.em > 0]),
        ]
        lines.append("| " + " | ".join([method, f"{threshold:.2f}", *cells]) + " |")
    return lines


def _share(truths: Sequence[bool]) -> str:
    return f"{100 * sum(truths) / len(truths):.0f} % of {len(truths)}" if truths else "–"


if __name__ == "__main__":
    main()
