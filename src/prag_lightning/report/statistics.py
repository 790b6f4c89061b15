"""How sure a mean is, and a difference of two methods on the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb

import numpy as np

RESAMPLES = 5000
CONFIDENCE = 0.95
_SEED = 0


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        """What stands after "±"."""
        return (self.high - self.low) / 2

    @property
    def excludes_zero(self) -> bool:
        """Whether all of it lies on one side of zero."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float]) -> Interval | None:
    """The percentile bootstrap's interval of the mean over questions; the same for the same values.

    Args:
        values: A score a question; for two methods' difference, the difference of their scores a question, which makes
            it the paired bootstrap.

    Returns:
        Nothing where there are fewer than two values or all are alike: drawing from them again says nothing then.
    """
    return None if len(values) < 2 or min(values) == max(values) else _drawn_interval(tuple(values))


@lru_cache(maxsize=1024)
def _drawn_interval(values: tuple[float, ...]) -> Interval:
    """Scores take few values, so a sample of the questions is drawn as how often it has each of them."""
    distinct, counts = np.unique(np.asarray(values, dtype=float), return_counts=True)
    smallest_first = np.argsort(abs(distinct), kind="stable")
    distinct, counts = distinct[smallest_first], counts[smallest_first]
    drawn = np.random.default_rng(_SEED).multinomial(len(values), counts / len(values), size=RESAMPLES)
    low, high = np.quantile(drawn @ distinct / len(values), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def sign_test(only_first: int, only_second: int) -> float:
    """How likely a split at least as uneven is if both methods are equally good (two-sided, exact; McNemar's test).

    Args:
        only_first: Questions that the first method alone gets right.
        only_second: Questions that the second alone does.
    """
    count = only_first + only_second
    as_few = sum(comb(count, few) for few in range(min(only_first, only_second) + 1))
    return min(1.0, float(as_few / 2 ** max(0, count - 1)))
