"""Chooses a checkpoint by dev scores."""

from collections.abc import Iterable, Mapping
from typing import Any

from distill.config.slices.select_checkpoint import SelectCheckpoint
from distill.errors import DataError

SCORER = "distill.evaluation.dev_scores"
"""Loaded by name where a run selects by a metric, so that an edit of it reruns no other choice."""


def selecting_metric(rule: str) -> str | None:
    """Returns the metric by whose scores of dev answers a checkpoint rule selects; None for dev_loss and last."""
    return None if rule in ("dev_loss", "last") else rule.removeprefix("dev_")


def select(rule: str, scores: dict[int, dict[str, float]]) -> int:
    """Returns the chosen update: lowest `dev_loss`, best `dev_METRIC`, or the last; the earliest wins a tie.

    Update 0 is the model that the run started from, which so stays where no checkpoint is above it.

    Raises:
        DataError: there is no checkpoint.
    """
    if not scores:
        raise DataError("select_checkpoint: expected at least one checkpoint, found none; rerun train_run")
    if rule == "last":
        return max(scores)
    if rule == "dev_loss":
        return min(sorted(scores), key=lambda update: scores[update]["dev_loss"])
    return max(sorted(scores), key=lambda update: scores[update][rule])


def selection(
    settings: SelectCheckpoint, dev: Iterable[Mapping], candidates: Iterable[int], answers: Mapping[int, float] | None
) -> dict[str, Any]:
    """Returns selection.json: the chosen update and every candidate's dev scores.

    Args:
        settings: the run's name and the rule.
        dev: rows {step, loss} of dev.jsonl.
        candidates: the updates to choose among.
        answers: mean score of the dev answers by update, of the metric that the rule names; None where it names none.
    """
    losses = {row["step"]: row["loss"] for row in dev}
    scores = {
        update: {"dev_loss": losses[update]} | ({} if answers is None else {settings.rule: answers[update]})
        for update in candidates
    }
    chosen = select(settings.rule, scores)
    return {
        "run": settings.name,
        "split": "dev",
        "rule": settings.rule,
        "update": chosen,
        "keeps_start": chosen == 0,
        "scores": {str(update): own for update, own in scores.items()},
    }
