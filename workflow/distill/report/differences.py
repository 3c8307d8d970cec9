"""Paired differences as columns of a table: figure, interval and verdict, and pairs that are tested together."""

from collections.abc import Iterator, Sequence

from distill.evaluation.statistics import Interval, holm, paired_bootstrap
from distill.report.recipes import Scores

COLUMNS = ("difference", "lo", "hi", "prompts", "p_value", "tests", "p_adjusted", "verdict")
"""Columns of a tested pair."""


def _direction(difference: float, is_clear: bool) -> str:
    return "undecided" if not is_clear else "higher" if difference > 0 else "lower"


def change(interval: Interval) -> dict:
    """Returns a difference, its interval and number of prompts, and which way the whole interval lies."""
    return {
        "difference": interval.estimate,
        "lo": interval.lo,
        "hi": interval.hi,
        "prompts": interval.n,
        "verdict": _direction(interval.estimate, not interval.lo <= 0 <= interval.hi),
    }


def tested(
    pairs: Sequence[tuple[str, str]], scores: Scores, dataset: str, decoding: str, seed: int
) -> Iterator[tuple[tuple[str, str], dict]]:
    """Yields each pair with its difference in score, prompt by prompt, and its 95% paired bootstrap interval.

    The pairs are tested together: `verdict` is higher or lower where the p-value adjusted for their number (`tests`,
    Holm) is below 0.05, else undecided.
    """
    intervals = [
        paired_bootstrap(scores[first, dataset, decoding], scores[second, dataset, decoding], seed)
        for first, second in pairs
    ]
    adjusted = holm([interval.p_value for interval in intervals])
    for pair, interval, p_adjusted in zip(pairs, intervals, adjusted, strict=True):
        yield (
            pair,
            {
                "dataset": dataset,
                "decoding": decoding,
                **change(interval),
                "p_value": interval.p_value,
                "tests": len(pairs),
                "p_adjusted": p_adjusted,
                "verdict": _direction(interval.estimate, p_adjusted < 0.05),
            },
        )
