"""Scores of one text against its references, and of a set of texts against itself; pure functions, no downloads."""

import string
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from nltk.stem.porter import PorterStemmer
from rouge_score import rouge_scorer, tokenize

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def references_of(example: Mapping) -> list[str]:
    """Returns an example's valid answers as a list; the output may be one string or several."""
    return [example["output"]] if isinstance(example["output"], str) else list(example["output"])


class _Tokenizer:
    """The tokens of rouge_score's own tokenizer; each word is stemmed once, which is most of the scorer's time."""

    def __init__(self):
        self.stem = cache(PorterStemmer().stem)

    def tokenize(self, text: str) -> list[str]:
        return tokenize.tokenize(text, self)


@cache
def _scorer() -> rouge_scorer.RougeScorer:
    return rouge_scorer.RougeScorer(["rougeL"], tokenizer=_Tokenizer())


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """Returns the sentence-level Rouge-L F-measure against the best of the references, 0 to 100.

    The protocol of MiniLLM and BD: rouge_score's `rougeL` (not `rougeLsum`) with its Porter stemmer. A prediction
    without any letter or digit of a-z, 0-9 scores 0.
    """
    return 100 * max(_scorer().score(reference, prediction)["rougeL"].fmeasure for reference in references)


def normalise(text: str) -> str:
    """Returns the text in lower case, without ASCII punctuation, its words joined by single blanks."""
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """Returns 100 if the normalised prediction equals a normalised reference, else 0; an empty one matches nothing."""
    normalised = normalise(prediction)
    return 100.0 if normalised and normalised in map(normalise, references) else 0.0


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
