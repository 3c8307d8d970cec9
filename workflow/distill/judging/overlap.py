"""The judge that needs no key: overlap with the reference answers decides."""

from typing import Self

from distill.judging.protocol import Choice, Item, Verdict
from distill.metrics.rouge_l import rouge_l


class OverlapJudge:
    """Reference overlap: the answer of higher Rouge-L against the item's references wins; equal ones tie.

    Not a stand-in for a human or a language model: it measures again what Rouge-L measures, so tables name it.
    """

    name = "reference overlap"
    max_concurrency = 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    async def judge(self, item: Item) -> Verdict:
        """Returns the verdict on one item; the same in either order."""
        score_a, score_b = (rouge_l(answer, item.references) for answer in (item.answer_a, item.answer_b))
        choice: Choice = "Tie" if score_a == score_b else "A" if score_a > score_b else "B"
        return Verdict(choice, raw=None, model=self.name)
