"""Two runs, compared question by question: of two models, two versions, or this code and the published one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from prag_lightning.errors import InputError
from prag_lightning.records import Json
from prag_lightning.report.comparison import Comparison, compare, shared_replies, unshared
from prag_lightning.report.gather import Experiment, Reply, Result, Results, labels, shown_setting
from prag_lightning.report.tables import Table, runs_compared

_QUESTION_COLUMNS = (
    *("experiment", "method_a", "method_b", "split", "test_id", "question", "gold"),
    *("text_a", "em_a", "f1_a", "text_b", "em_b", "f1_b"),
)


class RunPair(NamedTuple):
    """A result of each of two runs, and the experiment that the first belongs to, by its label."""

    experiment: str
    first: Result
    second: Result

    @property
    def method(self) -> str:
        """The method of both, or the two."""
        methods = dict.fromkeys((self.first.method, self.second.method))
        return " / ".join(methods)


@dataclass(frozen=True)
class Runs:
    """Two runs.

    Args:
        first: The folder of the run that a positive difference is in favour of, called A.
        second: The other's, called B.
        pairs: Their results of the same method and split; of two runs of one result each, these, whatever their names.
    """

    first: Path
    second: Path
    pairs: Sequence[RunPair]

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """The pairs compared."""
        return [
            compare(pair.first, pair.second, (f"A: {pair.first.method}", f"B: {pair.second.method}"))
            for pair in self.pairs
        ]

    @property
    def tables(self) -> list[Table]:
        """The comparisons, a table an experiment."""
        by_experiment: dict[str, list[tuple[str, Comparison]]] = {}
        for pair, comparison in zip(self.pairs, self.comparisons, strict=True):
            by_experiment.setdefault(pair.experiment, []).append((pair.method, comparison))
        return [runs_compared(*experiment) for experiment in by_experiment.items()]

    @property
    def notes(self) -> list[str]:
        """Which is A, what was not compared, and the settings in which results differ, as far as both say them; of
        pairs that differ alike, once."""
        by_difference: dict[str, list[str]] = {}
        for pair in self.pairs:
            if difference := _differences(pair.first, pair.second):
                by_difference.setdefault(difference, []).append(f"{pair.method}, {pair.first.split}")
        differ = [f"A and B differ in {what} ({'; '.join(where)})." for what, where in by_difference.items()]
        return [f"A is {self.first}, B is {self.second}.", *unshared(self.comparisons), *differ]

    def questions(self) -> Iterator[dict[str, Json]]:
        """A row a question that both were asked."""
        for experiment, a, b in self.pairs:
            about = [experiment, a.method, b.method, a.split]
            for ours, theirs in shared_replies(a, b):
                row = [*about, ours.test_id, ours.question, " / ".join(ours.answers), *_said(ours), *_said(theirs)]
                yield dict(zip(_QUESTION_COLUMNS, row, strict=True))


def pair_runs(first: Path, ours: Results, second: Path, theirs: Results) -> Runs:
    """Find for each result of a run the one of another run that it is to be compared with.

    Args:
        first: The folder of the first run.
        ours: Its results.
        second: The folder of the second run.
        theirs: Its results.

    Raises:
        InputError: if they have no method and split in common, or no question.
    """
    of_a, of_b = _flat(ours), _flat(theirs)
    if len(of_a) == len(of_b) == 1:
        found: list[tuple[Experiment, Result, Result | None]] = [(*of_a[0], of_b[0][1])]
    else:
        found = [(experiment, result, _counterpart(experiment, result, of_b)) for experiment, result in of_a]
    label = dict(zip((e.name for e in ours.experiments), labels(ours.experiments), strict=True))
    pairs = [RunPair(label[e.name], a, b) for e, a, b in found if b is not None and shared_replies(a, b)]
    if not pairs:
        raise InputError(
            "the two runs have no questions in common that the same method has answered",
            where=f"{first}, {second}",
            hint="Give folders of results on the same data, or of one result each",
        )
    return Runs(first, second, pairs)


def _flat(results: Results) -> list[tuple[Experiment, Result]]:
    return [(experiment, result) for experiment in results.experiments for result in experiment.results]


def _counterpart(experiment: Experiment, result: Result, others: Sequence[tuple[Experiment, Result]]) -> Result | None:
    """The result of the same folder; else that of the same data set, method and split, if there is but one."""
    alike = [(e, r) for e, r in others if (r.method, r.split) == (result.method, result.split)]
    same_folder = [r for e, r in alike if e.path == experiment.path]
    same_data = [r for e, r in alike if e.dataset == experiment.dataset]
    return next((found[0] for found in (same_folder, same_data) if len(found) == 1), None)


def _differences(a: Result, b: Result) -> str:
    ours, theirs = a.deciding_settings(named=True), b.deciding_settings(named=True)
    different = [
        f"{name} ({shown_setting(ours[name])}, {shown_setting(theirs[name])})"
        for name in ours
        if name in theirs and ours[name] != theirs[name]
    ]
    return ", ".join(different)


def _said(reply: Reply) -> tuple[str, float, float]:
    return reply.text, reply.scores["em"], reply.scores["f1"]
