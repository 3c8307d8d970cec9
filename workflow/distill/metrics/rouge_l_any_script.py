"""Rouge-L F-measure over the words of any script, 0 to 100, best of a prompt's references.

Texts of ASCII alone score as by `rouge_l`. Scripts that are written without blanks between words (Han, Hiragana,
Katakana, Thai, Lao, Khmer, Myanmar) count by character, as ROUGE for Chinese usually does (LCSTS, Hu et al. 2015);
letters, marks and digits of the others by word, unstemmed. Compatibility forms, case and invisible signs do not count.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from distill.metrics.registry import Metric
from distill.metrics.rouge_l import Tokenizer, best_f_measure

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

_UNSPACED = "".join(rf"\p{{scx={name}}}" for name in ("Han", "Hira", "Kana", "Thai", "Laoo", "Khmr", "Mymr"))
_CHARACTER = rf"[[{_UNSPACED}]&&[\p{{L}}\p{{N}}]]\p{{M}}*"
_WORD = rf"[[\p{{L}}\p{{N}}]--[{_UNSPACED}]][[\p{{L}}\p{{N}}\p{{M}}]--[{_UNSPACED}]]*"


class _AnyScript(Tokenizer):
    """Words of scripts with blanks, characters of those without; words of ASCII are stemmed as rouge_score stems."""

    def __init__(self):
        import regex

        super().__init__()
        self._invisible = regex.compile(r"\p{Cf}")
        self._tokens = regex.compile(f"{_CHARACTER}|{_WORD}", regex.V1)

    def tokenize(self, text: str) -> list[str]:
        plain = unicodedata.normalize("NFKC", self._invisible.sub("", text)).casefold()
        return [self.stem(word) if word.isascii() and len(word) > 3 else word for word in self._tokens.findall(plain)]


@cache
def _scorer() -> "RougeScorer":
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=_AnyScript())


def rouge_l_any_script(prediction: str, references: Sequence[str]) -> float:
    """Returns the sentence-level Rouge-L F-measure against the best of the references, 0 to 100.

    A prediction without any letter or digit scores 0.
    """
    return best_f_measure(_scorer(), prediction, references)


METRIC = Metric(title="Rouge-L (any script)", score=rouge_l_any_script, hub="rouge")
