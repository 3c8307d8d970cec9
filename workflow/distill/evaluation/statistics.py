"""Means with their spread: over seeds by the sample deviation, over prompts by the bootstrap; Holm's correction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from statistics import fmean, stdev

import numpy as np

from distill.errors import DataError
from distill.evaluation.p_values import RESAMPLES, SMALLEST

_CELLS = 4_000_000  # indices drawn at once: bounds memory at 32 MB, whatever the number of prompts


@dataclass(frozen=True)
class Spread:
    """The mean of n values and their sample standard deviation (None for one value)."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Interval:
    """An estimate over n prompts with its percentile bootstrap interval [lo, hi], 95% unless asked otherwise.

    `p_value` is two-sided and tests that the mean is 0 with the same resamples: twice the smaller share of resampled
    means at or beyond 0, where the share counts one resample more on either side (k + 1 of 10,001). With k = 0 it is an
    upper bound (`p_values.bound`).
    """

    estimate: float
    lo: float
    hi: float
    n: int
    p_value: float


def mean_std(values: Sequence[float]) -> Spread:
    """Returns the mean and sample standard deviation (divisor n - 1), as for the scores of several seeds.

    Raises:
        DataError: there is no value.
    """
    if not values:
        raise DataError("statistics: expected at least one value, found none; score the run first")
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


@lru_cache(maxsize=8)
def _resamples(n: int, seed: int) -> list[np.ndarray]:
    """Returns the prompts of every resample; tests on sets of one size share them."""
    generator = np.random.default_rng(seed)
    step = max(1, _CELLS // n)
    return [
        generator.integers(n, size=(min(step, RESAMPLES - start), n)).astype(np.int32)
        for start in range(0, RESAMPLES, step)
    ]


def bootstrap(values: Sequence[float], seed: int = 0, level: float = 0.95) -> Interval:
    """Returns the mean of per-prompt values and its percentile bootstrap interval over 10,000 resamples of the prompts.

    Raises:
        DataError: there is no value.
    """
    if not len(values):
        raise DataError("statistics: expected scores of at least one prompt, found none; score the run first")
    scores = np.asarray(values, dtype=np.float64)
    n = len(scores)
    means = np.concatenate([np.take(scores, rows).mean(axis=1) for rows in _resamples(n, seed)])
    lo, hi = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    beyond = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    p_value = min(1.0, (int(beyond) + 1) * SMALLEST)
    return Interval(float(scores.mean()), float(lo), float(hi), n, p_value)


def paired_bootstrap(
    first: Mapping[str, float], second: Mapping[str, float], seed: int = 0, level: float = 0.95
) -> Interval:
    """Returns the difference of means, first minus second, of two systems' scores on the same prompts.

    Prompts are resampled with both systems' scores together, so that what makes a prompt hard cancels out. An interval
    that leaves out 0 says that the difference is more than the choice of prompts explains.

    Args:
        first: score by prompt id.
        second: score by prompt id, of the same prompts.
        seed: of the resampling.
        level: coverage of the interval.

    Raises:
        DataError: the two score different prompts, or none.
    """
    if first.keys() != second.keys():
        odd = sorted(first.keys() ^ second.keys())
        raise DataError(
            f"statistics: expected scores of the same prompts on both sides, found {len(odd)} on one side only, such "
            f"as {odd[0]}; score both runs on the same evaluation set"
        )
    return bootstrap([first[prompt] - second[prompt] for prompt in sorted(first)], seed, level)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns the p-values adjusted for testing all of them together (Holm 1979), in the given order.

    The k-th smallest of m is multiplied by m - k + 1, is at least what the smaller ones became, and at most 1. Calling
    those below 0.05 different keeps the chance of any false call among the m below 0.05.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    scaled = ((len(order) - rank) * p_values[index] for rank, index in enumerate(order))
    adjusted = dict(zip(order, accumulate(scaled, max), strict=True))
    return [min(1.0, adjusted[index]) for index in range(len(p_values))]
