"""Diversity of a set of texts. It is no metric of one answer, so no set is scored by it."""

from collections.abc import Iterable

from distill.metrics.text import normalise


def distinct_n(texts: Iterable[str], n: int) -> float:
    """Returns distinct-n of a set of texts (Li et al. 2016): different n-grams of normalised words / all of them.

    In [0, 1]; 0 if no text has n words. It falls with the size of the set, so compare sets of equal size only.
    """
    grams = [
        tuple(words[start : start + n])
        for words in (normalise(text).split() for text in texts)
        for start in range(len(words) - n + 1)
    ]
    return len(set(grams)) / len(grams) if grams else 0.0
