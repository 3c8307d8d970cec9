"""Which items an update trains on, and how many updates a run has."""

import numpy as np

from distill.config.training import Length, Training
from distill.errors import ConfigError
from distill.seeds import stage_seed


def epoch_batches(items: int, batch: int, key: str) -> int:
    """Returns the number of whole batches in one epoch.

    Raises:
        ConfigError: fewer items than one batch.
    """
    if items < batch:
        raise ConfigError(f"{key}.training.batch: expected at most the {items} training items, found {batch}; lower it")
    return items // batch


def batch_indices(step: int, items: int, batch: int, *seed: int | str) -> list[int]:
    """Returns the item indices of update `step` (from 0): each epoch is its own permutation, the remainder dropped.

    The order is a function of (seed, epoch) alone, so that a resumed run needs no saved order.
    """
    epoch, position = divmod(step, items // batch)
    order = np.random.default_rng(stage_seed(*seed, epoch)).permutation(items)
    return order[position * batch : (position + 1) * batch].tolist()


def plan_steps(length: Length | Training, items: int, key: str) -> int:
    """Returns the updates of what has `steps`, or `epochs` and `batch`; epochs count whole batches."""
    assert length.batch is not None  # no length is copied without its batch, but in updates
    per_epoch = epoch_batches(items, length.batch, key)
    if length.steps:
        return length.steps
    assert length.epochs is not None  # where there are no steps
    return max(1, round(length.epochs * per_epoch))
