"""What the number of resamples leaves of a small p-value, and how it is read; readable without numpy."""

import math

RESAMPLES = 10_000
SMALLEST = 2 / (RESAMPLES + 1)
"""The bootstrap's p-value where no resample lies beyond 0: an upper bound, since more resamples could give less."""


def bound(p: float, tests: int = 1) -> str | None:
    """Returns how a p-value reads that rests on the smallest one, rounded up: `<= 0.0002`; None for any other.

    Args:
        p: the p-value, adjusted by Holm's method for so many tests.
        tests: 1 for a p-value that is not adjusted.
    """
    if p >= 1 or p > tests * SMALLEST * (1 + 1e-9):
        return None
    digits = 1 - math.floor(math.log10(p))
    return f"<= {math.ceil(round(p * 10**digits, 6)) / 10**digits:.2g}"
