"""Chooses a checkpoint by dev scores."""

from distill.config.runs import SelectionRule
from distill.errors import DataError


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
