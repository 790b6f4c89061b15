"""How sure a mean is, and a difference of two methods on the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

RESAMPLES = 5000
CONFIDENCE = 0.95
_SEED = 0
_VALUES_AT_ONCE = 4_000_000


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
    from scipy.stats import bootstrap

    drawn = bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, _VALUES_AT_ONCE // len(values)),
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    )
    low, high = drawn.confidence_interval
    return Interval(float(low), float(high))


def sign_test(only_first: int, only_second: int) -> float:
    """How likely a split at least as uneven is if both methods are equally good (two-sided, exact; McNemar's test).

    Args:
        only_first: Questions that the first method alone gets right.
        only_second: Questions that the second alone does.
    """
    if only_first + only_second == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_first, only_first + only_second).pvalue)
