"""The judge that needs no key: overlap with the reference answers decides."""

from collections.abc import Callable, Sequence

from distill.judging.protocol import Choice, Item, Verdict
from distill.metrics.rouge_l import rouge_l


class OverlapJudge:
    """Reference overlap: the answer of higher Rouge-L against the item's references wins; equal ones tie.

    Not a stand-in for a human or a language model: it measures again what Rouge-L measures, so tables name it.
    """

    name = "reference overlap"
    spent_usd = 0.0

    def judge(self, items: Sequence[Item], progress: Callable[[], object]) -> list[Verdict]:
        """Returns the verdict on each item; the same in either order."""
        verdicts = []
        for item in items:
            score_a, score_b = (rouge_l(answer, item.references) for answer in (item.answer_a, item.answer_b))
            choice: Choice = "Tie" if score_a == score_b else "A" if score_a > score_b else "B"
            verdicts.append(Verdict(choice, raw=None, model=self.name))
            progress()
        return verdicts
