"""The report's tables, as both page and Markdown show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from prag_lightning.inference.results import COUNTS, MISSING, OF_ANSWERED, method_order
from prag_lightning.report.comparison import Comparison
from prag_lightning.report.gather import Experiment, Result, labels
from prag_lightning.report.published import has_published, published_f1
from prag_lightning.report.spending import Spending
from prag_lightning.report.statistics import Interval, mean_interval

MEANINGS = {
    "method": "How the passages reach the model: vanilla, not at all; icl, in the prompt (standard RAG); prag, as "
    "adapters in its weights; combine, both. -other is a control with another question's adapters; another ending "
    "names how several adapters were merged. What follows a “_” are settings that the "
    "same method's result without it has otherwise.",
    "split": "The part of the data set; total is all of it.",
    "n": "Questions that were answered.",
    "EM": "Exact match: the share of answers that equal a gold answer but for case, punctuation and articles.",
    "F1": "Overlap of the answer's words with the closest gold answer's, averaged over the questions.",
    "paper F1": "What the paper reports for this model, data set, split and method.",
    "difference": "Our F1 less the paper's, in points. A re-run of the paper's own code moved by up to 3.",
    "prec": "Share of the answer's words that stand in the gold answer.",
    "recall": "Share of the gold answer's words that stand in the answer.",
    "present": "Share of replies in which a gold answer stands anywhere, as whole words.",
    "s/question": "Seconds a question, adapters loaded and merged, in batches as configured.",
    "unanswered": "Questions that could not be answered, such as those that the model cannot read whole; no mean "
    "has them.",
    "out of reach": "Questions whose gold answer the extraction would cut even if it were given word for word, so that "
    "no reply counts as exact.",
    "A": "The method, or run, that a positive difference favours.",
    "B": "The one that it is compared with, on the same questions.",
    "shared": "Questions that both answered; others are left out of the comparison.",
    "both right": "Questions that A and B answer exactly.",
    "only A": "Questions that A answers exactly and B does not.",
    "only B": "Questions that B answers exactly and A does not.",
    "neither": "Questions that none answers exactly.",
    "EM, A − B": "Difference of exact matches in points, with its paired interval.",
    "F1, A − B": "Difference of F1 in points, with its paired interval.",
    "p": "How often “only A” and “only B” would be at least this uneven if both methods were equally good (exact sign "
    "test).",
    "stage": "What was done; test stands with its method and split.",
    "pieces": "Passages or questions that the time is of. Runs that were killed outright leave no record.",
    "time": "Time that went by over them, without the start of commands.",
    "each": "Seconds a passage or question.",
    "per second": "Passages or questions a second.",
    "bytes": "What the stage's files take on disk now.",
    "bytes each": "Bytes a passage.",
    "device": "What it ran on, where that was recorded.",
    "experiment": "Model, recipe and data set; results of different recipes never share a row.",
}
"""What each column says, in a sentence."""
_LEFT = frozenset({"method", "split", "A", "B", "stage", "device", "experiment"})


class Cell(NamedTuple):
    """A cell's text, and whether it is good or bad news: `better`, `worse` or nothing."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        caption: What it shows.
        headings: Of its columns.
        groups: Rows, in groups that belong together.
    """

    caption: str
    headings: Sequence[str]
    groups: Sequence[Sequence[Sequence[Cell]]]

    def numeric(self, column: int) -> bool:
        """Whether a column holds numbers, by its place."""
        return self.headings[column] not in _LEFT


def glance(experiments: Sequence[Experiment]) -> Table:
    """F1 of all methods: a row an experiment and split, a column a method."""
    methods = sorted({result.method for e in experiments for result in e.results}, key=method_order)
    groups = []
    for experiment, label in zip(experiments, labels(experiments), strict=True):
        rows = []
        for split in experiment.splits:
            by_method = {result.method: result for result in experiment.of_split(split)}
            cells = [_score(by_method.get(method), "f1") for method in methods]
            rows.append([Cell(label), Cell(split), *cells])
        groups.append(rows)
    return Table("F1 at a glance, in per cent", ["experiment", "split", *methods], groups)


def scores(experiment: Experiment) -> Table:
    """An experiment's scores, the paper's beside them where it has some."""
    published = has_published(experiment.model, experiment.dataset)
    headings = ["method", "split", "n", "EM", "F1", "prec", "recall", "present", "s/question"]
    if published:
        headings[5:5] = ["paper F1", "difference"]
    counts = {name: heading for name, heading in COUNTS.items() if any(r.count(name) for r in experiment.results)}
    headings += counts.values()
    answered = {name: heading for name, heading in OF_ANSWERED.items() if _any_says(experiment, name)}
    headings += answered.values()
    groups = []
    for split in experiment.splits:
        rows = []
        for result in experiment.of_split(split):
            row = [Cell(result.method), Cell(split), Cell(str(len(result.replies)))]
            row += [_score(result, "em"), _score(result, "f1")]
            row += _beside_the_paper(experiment, result) if published else []
            row += [Cell(_percent(result.mean("prec"))), Cell(_percent(result.mean("recall")))]
            row.append(Cell(_percent(result.summary.get("presence"))))
            row.append(Cell(_number(result.summary.get("seconds_per_question"), ".3f")))
            row += [Cell(str(result.count(name))) for name in counts]
            row += [Cell(_percent(result.summary.get(name))) for name in answered]
            rows.append(row)
        groups.append(rows)
    return Table("Scores, in per cent, with 95 % intervals", headings, groups)


def _any_says(experiment: Experiment, name: str) -> bool:
    return any(name in result.summary for result in experiment.results)


_COMPARED = ("shared", "both right", "only A", "only B", "neither", "EM, A − B", "F1, A − B", "p")


def compared(comparisons: Sequence[Comparison]) -> Table:
    """Pairs of methods on the questions that both answered."""
    groups: dict[str, list[list[Cell]]] = {}
    for c in comparisons:
        groups.setdefault(c.split, []).append([Cell(c.first), Cell(c.second), Cell(c.split), *_compared(c)])
    headings = ["A", "B", "split", *_COMPARED]
    return Table("Methods compared, question by question", headings, list(groups.values()))


def runs_compared(experiment: str, comparisons: Sequence[tuple[str, Comparison]]) -> Table:
    """Results of two runs on the questions that both answered, each with its method, all of one experiment."""
    groups: dict[str, list[list[Cell]]] = {}
    for method, c in comparisons:
        groups.setdefault(c.split, []).append([Cell(method), Cell(c.split), *_compared(c)])
    caption = f"A and B, question by question: {experiment}"
    return Table(caption, ["method", "split", *_COMPARED], list(groups.values()))


def _compared(c: Comparison) -> list[Cell]:
    counts = (c.shared, c.both, c.only_first, c.only_second, c.neither)
    differences = [_difference(*c.differences[score]) for score in ("em", "f1")]
    return [
        *(Cell(str(count)) for count in counts),
        *differences,
        Cell("<0.001" if c.p_value < 0.001 else f"{c.p_value:.3f}"),
    ]


def costs(rows: Sequence[Spending]) -> Table:
    """What the stages cost."""
    headings = ["stage", "pieces", "time", "each", "per second", "bytes", "bytes each", "device"]
    groups: dict[bool, list[list[Cell]]] = {}
    for row in rows:
        seconds = row.seconds if row.pieces else None
        texts = [
            row.stage,
            f"{row.pieces} {row.unit}" if row.pieces else MISSING,
            MISSING if row.seconds is None else duration(row.seconds),
            MISSING if seconds is None else f"{seconds / row.pieces:.3g} s",
            f"{row.pieces / seconds:.3g}" if seconds else MISSING,
            MISSING if row.size is None else size(row.size),
            MISSING if row.size is None or not row.pieces else size(row.size / row.pieces),
            row.device or MISSING,
        ]
        groups.setdefault(row.unit == "questions", []).append([Cell(text) for text in texts])
    return Table("Cost of each stage", headings, list(groups.values()))


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def size(count: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


def half_widths(result: Result) -> dict[str, float]:
    """What stands after "±" for EM and F1, where an interval can be had."""
    intervals = {score: mean_interval(result.values(score)) for score in ("em", "f1")}
    return {score: interval.half_width for score, interval in intervals.items() if interval is not None}


def _score(result: Result | None, score: str) -> Cell:
    if result is None:
        return Cell(MISSING)
    width = half_widths(result).get(score)
    return Cell(_percent(result.mean(score)) + ("" if width is None else f" ±{100 * width:.1f}"))


def _beside_the_paper(experiment: Experiment, result: Result) -> list[Cell]:
    paper = published_f1(experiment.model, experiment.dataset, result.split, result.method)
    if paper is None:
        return [Cell(MISSING), Cell(MISSING)]
    ours = mean_interval(result.values("f1"))
    interval = None if ours is None else Interval(ours.low - paper, ours.high - paper)
    difference = result.mean("f1") - paper
    return [Cell(_percent(paper)), Cell(_signed(difference), _tone(difference, interval))]


def _difference(mean: float, interval: Interval | None) -> Cell:
    text = _signed(mean)
    if interval is not None:
        text += f" [{_signed(interval.low)}, {_signed(interval.high)}]"
    return Cell(text, _tone(mean, interval))


def _tone(difference: float, interval: Interval | None) -> str:
    """Good or bad news only where the interval leaves out that there is no difference."""
    if interval is None or not interval.excludes_zero:
        return ""
    return "better" if difference > 0 else "worse"


def _signed(value: float) -> str:
    text = f"{100 * value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def _percent(value: float | None) -> str:
    return _number(None if value is None else 100 * value, ".1f")


def _number(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)
