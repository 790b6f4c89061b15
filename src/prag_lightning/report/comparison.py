"""Two methods on the same questions: which each gets right, by how much they differ, and where most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prag_lightning.inference.identity import method_settings
from prag_lightning.report.gather import Experiment, Reply, Result
from prag_lightning.report.statistics import Interval, mean_interval, sign_test

EXAMPLES = 5
"""Wins and losses that are shown of a comparison."""
_PAIRS = (
    ("prag", "icl"),
    ("combine", "icl"),
    ("combine", "prag"),
    ("prag", "prag-other"),
    ("prag", "vanilla"),
    ("icl", "vanilla"),
)


@dataclass(frozen=True)
class Comparison:
    """The first method against the second, on the questions that both answered.

    Args:
        split: Of the data set.
        first: The method that a positive difference is in favour of.
        second: The other.
        both: Questions that both get right (EM 1).
        only_first: Questions that the first alone does.
        only_second: Questions that the second alone does.
        neither: Questions that none does.
        unshared: Questions that one of them alone was asked, or under whose number the other has another text.
        differences: Mean difference of EM and F1, with its interval.
        p_value: Of the sign test on the questions that one alone gets right.
        wins: The pairs of replies whose F1 differs most in favour of the first.
        losses: Likewise of the second.
    """

    split: str
    first: str
    second: str
    both: int
    only_first: int
    only_second: int
    neither: int
    unshared: int
    differences: dict[str, tuple[float, Interval | None]]
    p_value: float
    wins: tuple[tuple[Reply, Reply], ...]
    losses: tuple[tuple[Reply, Reply], ...]

    @property
    def shared(self) -> int:
        """Questions that it is about."""
        return self.both + self.only_first + self.only_second + self.neither


def comparisons(experiment: Experiment) -> list[Comparison]:
    """What is worth comparing in an experiment, split by split; pairs without a question in common are left out."""
    made = []
    for split in experiment.splits:
        by_method = {result.method: result for result in experiment.of_split(split)}
        for first, second in _pairs(list(by_method)):
            comparison = compare(by_method[first], by_method[second])
            if comparison.shared:
                made.append(comparison)
    return made


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """The usual pairs, every variant of a method beside the method itself, and a method with other settings beside the
    one without; never two that differ in more than that."""
    plain = {name: method_settings(name)[0] for name in names}
    pairs = []
    for end in dict.fromkeys(name.removeprefix(method) for name, method in plain.items()):
        methods = [method for name, method in plain.items() if name == method + end]
        variants = [(method, method.partition("-")[0]) for method in methods if "-" in method]
        usual = [*_PAIRS, *(pair[::-1] if pair[::-1] in _PAIRS else pair for pair in variants)]
        pairs += [(a + end, b + end) for a, b in dict.fromkeys(usual) if a in methods and b in methods]
    return pairs + [(name, method) for name, method in plain.items() if name != method and method in names]


def compare(first: Result, second: Result, names: tuple[str, str] | None = None) -> Comparison:
    """Compare two results on the questions of the same number and the same text.

    Args:
        first: The one that a positive difference is in favour of.
        second: The other.
        names: What to call them; unset means by their methods.
    """
    pairs = shared_replies(first, second)
    right = [(ours.scores["em"] == 1, theirs.scores["em"] == 1) for ours, theirs in pairs]
    only_first, only_second = right.count((True, False)), right.count((False, True))
    numbers = {reply.test_id for result in (first, second) for reply in result.replies}
    return Comparison(
        first.split,
        *(names or (first.method, second.method)),
        right.count((True, True)),
        only_first,
        only_second,
        right.count((False, False)),
        len(numbers) - len(pairs),
        {score: _difference(pairs, score) for score in ("em", "f1")},
        sign_test(only_first, only_second),
        _most_different(pairs, 1),
        _most_different(pairs, -1),
    )


def shared_replies(first: Result, second: Result) -> list[tuple[Reply, Reply]]:
    """What two results answer to the questions that both were asked."""
    other = {reply.test_id: reply for reply in second.replies}
    return [
        (reply, other[reply.test_id])
        for reply in first.replies
        if reply.test_id in other and other[reply.test_id].question == reply.question
    ]


def unshared(compared: Sequence[Comparison]) -> list[str]:
    """Sentences about the comparisons that leave questions out."""
    return [
        f"{c.split}: {c.first} and {c.second} were compared on {c.shared} questions; "
        f"{c.unshared} were not asked of both with the same text."
        for c in compared
        if c.unshared
    ]


def _difference(pairs: Sequence[tuple[Reply, Reply]], score: str) -> tuple[float, Interval | None]:
    differences = [ours.scores[score] - theirs.scores[score] for ours, theirs in pairs]
    return sum(differences) / max(1, len(differences)), mean_interval(differences)


def _most_different(pairs: Sequence[tuple[Reply, Reply]], sign: int) -> tuple[tuple[Reply, Reply], ...]:
    """The pairs whose F1 differs most one way; of equal ones, the first questions."""

    def difference(pair: tuple[Reply, Reply]) -> float:
        return sign * (pair[0].scores["f1"] - pair[1].scores["f1"])

    different = [pair for pair in pairs if difference(pair) > 0]
    return tuple(sorted(different, key=lambda pair: (-difference(pair), pair[0].test_id))[:EXAMPLES])
