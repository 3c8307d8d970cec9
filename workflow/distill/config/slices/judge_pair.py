"""The slice of the config that `judge_pair` depends on."""

from distill.config.base import Section
from distill.config.judge import Judging, Pair


class JudgePair(Section):
    """Slice of judge_pair; `judge.kind` is openai or overlap, and `pair` is [system, opponent]."""

    judge: Judging
    pair: Pair
