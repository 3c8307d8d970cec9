"""Chooses a checkpoint by dev scores."""

from collections.abc import Iterable, Mapping
from typing import Any

from distill.config.runs import SelectionRule
from distill.config.slices.select_checkpoint import SelectCheckpoint
from distill.errors import DataError

SCORER = "distill.evaluation.dev_scores"
"""Loaded by name where a run selects by dev Rouge-L, so that an edit of a metric reruns no other choice."""


def select(rule: SelectionRule, scores: dict[int, dict[str, float]]) -> int:
    """Returns the chosen update: best `dev_rouge`, lowest `dev_loss`, or the last; the earliest wins a tie.

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
    return max(sorted(scores), key=lambda update: scores[update]["dev_rouge"])


def selection(
    settings: SelectCheckpoint, dev: Iterable[Mapping], candidates: Iterable[int], rouge: Mapping[int, float] | None
) -> dict[str, Any]:
    """Returns selection.json: the chosen update and every candidate's dev scores.

    Args:
        settings: the run's name and the rule.
        dev: rows {step, loss} of dev.jsonl.
        candidates: the updates to choose among.
        rouge: dev Rouge-L by update; None where it was not measured.
    """
    losses = {row["step"]: row["loss"] for row in dev}
    scores = {
        update: {"dev_loss": losses[update]} | ({} if rouge is None else {"dev_rouge": rouge[update]})
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
