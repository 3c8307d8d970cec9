"""Exact match with one of a prompt's references but for case, punctuation and blanks, in percent."""

from collections.abc import Sequence

from distill.metrics.registry import Metric
from distill.metrics.text import normalise


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """Returns 100 if the normalised prediction equals a normalised reference, else 0; an empty one matches nothing."""
    normalised = normalise(prediction)
    return 100.0 if normalised and normalised in map(normalise, references) else 0.0


METRIC = Metric(title="Exact match", score=exact_match)
