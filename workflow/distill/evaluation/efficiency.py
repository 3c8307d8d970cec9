"""What a model costs to run and what quality it keeps, from what `measure_efficiency` wrote of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

MEASURED = "measured.jsonl"
"""The stage's file: a row a system."""
OF_MACHINE = ("machine", "libraries_bytes", "peak_bytes", "latencies", "batch_seconds")
"""Keys of its rows that say as much of the machine and its load as of the model; no rerun repeats them."""


def efficiency(row: Mapping[str, Any], price_per_hour: float | None) -> dict[str, float | None]:
    """Returns tokens a second, the median and the 95th percentile of the latencies (ms), and the cost of a million
    tokens.

    Args:
        row: of MEASURED: latencies (s) of single requests, tokens of the batch and its seconds, each time.
        price_per_hour: of the machine; None for no cost.
    """
    speed = row["batch_tokens"] / float(np.median(row["batch_seconds"]))
    median, late = (1000 * np.percentile(row["latencies"], (50, 95))).tolist()
    return {
        "tokens_per_second": speed,
        "latency_p50_ms": median,
        "latency_p95_ms": late,
        "cost_per_million": None if price_per_hour is None else price_per_hour * 1e6 / (3600 * speed),
    }


def retention(score: float, teacher: float | None) -> float | None:
    """Returns the share of a teacher's score that a system keeps; None without a teacher, and where its score is 0."""
    return score / teacher if teacher else None
