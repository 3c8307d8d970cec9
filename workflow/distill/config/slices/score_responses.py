"""The slice of the config that `score_responses` depends on."""

from distill.config.base import Section


class ScoreResponses(Section):
    """Slice of score_responses; `metrics` names each set's metric."""

    system: str
    metrics: dict[str, str]
