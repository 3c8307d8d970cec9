"""Rouge-L F-measure with stemming, 0 to 100, best of a prompt's references.

The protocol of MiniLLM and BD: rouge_score's `rougeL` (not `rougeLsum`) with its Porter stemmer; no downloads.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from distill.metrics.registry import Metric

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer


class Tokenizer:
    """The tokens of rouge_score's own tokenizer; each word is stemmed once, which is most of the scorer's time."""

    def __init__(self):
        from nltk.stem.porter import PorterStemmer

        self.stem = cache(PorterStemmer().stem)

    def tokenize(self, text: str) -> list[str]:
        from rouge_score.tokenize import tokenize

        return tokenize(text, self)


@cache
def _scorer() -> "RougeScorer":
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=Tokenizer())


def best_f_measure(scorer: "RougeScorer", prediction: str, references: Sequence[str]) -> float:
    """Returns the Rouge-L F-measure of a scorer against the best of the references, 0 to 100."""
    return 100 * max(scorer.score(reference, prediction)["rougeL"].fmeasure for reference in references)


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """Returns the sentence-level Rouge-L F-measure against the best of the references, 0 to 100.

    A prediction without any letter or digit of a-z, 0-9 scores 0.
    """
    return best_f_measure(_scorer(), prediction, references)


METRIC = Metric(
    title="Rouge-L",
    score=rouge_l,
    hub="rouge",
    reads=lambda letter: letter.lower().isascii(),
    any_script="rouge_l_any_script",
)
