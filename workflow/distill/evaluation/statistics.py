"""Means with their spread: over seeds by the sample deviation, over prompts by the bootstrap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from distill.errors import DataError

RESAMPLES = 10_000
_CELLS = 4_000_000  # indices drawn at once: bounds memory at 32 MB, whatever the number of prompts


@dataclass(frozen=True)
class Spread:
    """The mean of n values and their sample standard deviation (None for one value)."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Interval:
    """An estimate over n prompts with its percentile bootstrap interval [lo, hi], 95% unless asked otherwise."""

    estimate: float
    lo: float
    hi: float
    n: int


def mean_std(values: Sequence[float]) -> Spread:
    """Returns the mean and sample standard deviation (divisor n - 1), as for the scores of several seeds.

    Raises:
        DataError: there is no value.
    """
    if not values:
        raise DataError("statistics: expected at least one value, found none; score the run first")
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def bootstrap(values: Sequence[float], seed: int = 0, level: float = 0.95) -> Interval:
    """Returns the mean of per-prompt values and its percentile bootstrap interval over 10,000 resamples of the prompts.

    Raises:
        DataError: there is no value.
    """
    if not len(values):
        raise DataError("statistics: expected scores of at least one prompt, found none; score the run first")
    scores = np.asarray(values, dtype=np.float64)
    n = len(scores)
    generator = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    step = max(1, _CELLS // n)
    for start in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - start)
        means[start : start + rows] = scores[generator.integers(n, size=(rows, n))].mean(axis=1)
    lo, hi = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(scores.mean()), float(lo), float(hi), n)


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
