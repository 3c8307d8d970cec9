"""The judge that needs no key: overlap with the reference answers decides."""

from collections.abc import Callable, Sequence

from distill.config.judge import Judging
from distill.judging.protocol import Choice, Item, Verdict
from distill.metrics.registry import load_metric
from distill.metrics.scored_set import ScoredSet


class OverlapJudge:
    """Reference overlap: the answer of the higher score against the item's references wins; equal ones tie.

    Not a stand-in for a human or a language model: it measures again what the metric measures, so tables name it.
    """

    name = "reference overlap"
    spent_usd = 0.0

    def __init__(self, config: Judging):
        self._scored = ScoredSet(config.dataset, config.metric, "judge.metric")
        self._score = load_metric(config.metric).score

    def judge(self, items: Sequence[Item], progress: Callable[[], object]) -> list[Verdict]:
        """Returns the verdict on each item; the same in either order.

        Raises:
            DataError: every reference scores 0 against itself, so that all would tie.
        """
        self._scored.check([text for item in items if item.order == "ab" for text in item.references])
        verdicts = []
        for item in items:
            score_a, score_b = (self._score(answer, item.references) for answer in (item.answer_a, item.answer_b))
            choice: Choice = "Tie" if score_a == score_b else "A" if score_a > score_b else "B"
            verdicts.append(Verdict(choice, raw=None, model=self.name))
            progress()
        return verdicts
