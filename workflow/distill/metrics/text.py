"""Texts as metrics compare them."""

import string
from collections.abc import Mapping

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def references_of(example: Mapping) -> list[str]:
    """Returns an example's valid answers as a list; the output may be one string or several."""
    return [example["output"]] if isinstance(example["output"], str) else list(example["output"])


def normalise(text: str) -> str:
    """Returns the text in lower case, without ASCII punctuation, its words joined by single blanks."""
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())
