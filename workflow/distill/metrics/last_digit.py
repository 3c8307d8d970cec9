"""Share of answers to sums that end with `#` and the right digit, hold no other `#`, and end by themselves, in percent.

The verifier of the task `sums`, and the reward of its policy gradients.
"""

from collections.abc import Sequence

from distill.metrics.registry import Metric


def last_digit(prediction: str, references: Sequence[str]) -> float:
    """Returns 100 if an answer ends with `#` and the digit that a reference ends with and has no other `#`, else 0."""
    return 100.0 if prediction.count("#") == 1 and prediction[-2:] in {each[-2:] for each in references} else 0.0


METRIC = Metric(title="Accuracy", score=last_digit, hub="accuracy", needs_end=True)
