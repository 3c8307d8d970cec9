"""What candidate sets look like: counts and sums that add up over parts and shards. Loads without torch."""

from collections.abc import Iterable
from itertools import accumulate
from typing import Any

STATISTICS = "statistics.json"
"""File of a shard's counts.

states, tokens: states in all, and those that a token follows; the rest is counted over the latter.
bytes: size of the stored tensors.
entropy: sum over all states, in nats.
sorted_mass: sum of the mass of the k-th most probable token, k = 1 .. 50.
sets: by p, {sizes: {set size: states}, mass: sum of teacher mass inside, inside: sampled tokens in their set}.
"""


def add_statistics(parts: Iterable[dict]) -> dict:
    """Returns the counts of several parts together, {} for none."""
    return _sum([{}, *parts])


def _sum(values: list) -> Any:
    if isinstance(values[0], dict):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: _sum([value[key] for value in values if key in value]) for key in keys}
    if isinstance(values[0], list):
        return [_sum(list(places)) for places in zip(*values, strict=True)]
    return sum(values)


def summarise(shards: Iterable[dict]) -> dict:
    """Returns the statistics of all shards together.

    Args:
        shards: the counts of each.

    Returns:
        {teacher_entropy: mean over all states, in nats; bytes_per_token: of the stored sets; sorted_mass: mean mass of
        the k most probable tokens, k = 1 .. 50 (paper, Figure 1); sets: a row a p}. A row holds p, states, median size
        (the lower of two middle ones), mean size, share of singletons, p_eff (mean mass inside), and the share of
        sampled tokens outside.
    """
    counts = add_statistics(shards)
    return {
        "teacher_entropy": counts["entropy"] / counts["states"],
        "bytes_per_token": counts["bytes"] / counts["tokens"],
        "sorted_mass": [mass / counts["tokens"] for mass in accumulate(counts["sorted_mass"])],
        "sets": [_row(float(p), own, counts["tokens"]) for p, own in counts["sets"].items()],
    }


def _row(p: float, counts: dict, states: int) -> dict[str, float]:
    sizes = sorted((int(size), number) for size, number in counts["sizes"].items())
    upto = accumulate(number for _, number in sizes)
    return {
        "p": p,
        "states": states,
        "median_size": float(next(size for (size, _), seen in zip(sizes, upto, strict=True) if 2 * seen >= states)),
        "mean_size": sum(size * number for size, number in sizes) / states,
        "singletons": dict(sizes).get(1, 0) / states,
        "p_eff": counts["mass"] / states,
        "out_of_set": 1 - counts["inside"] / states,
    }
