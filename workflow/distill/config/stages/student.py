"""Config slices of training runs, their validation and selection."""

from typing import Any

from distill.config.base import Section
from distill.config.runs import SelectionRule
from distill.config.sampling import Decoding, Sampling
from distill.config.training import DeepSpeed, Training


class TrainRun(Section):
    """Slice of train_run.

    `run` is the section of the run's method, without `select`. `plugin` is the method's file if it is not one of the
    package. `updates_of` is the recipe of the run whose number of updates is copied. `labelled_rows` and `prompts` are
    how many rows of train the run may take responses or prompts from; None for all.
    """

    name: str
    plugin: str | None = None
    run: dict[str, Any]
    updates_of: Training | None
    labelled_rows: int | None = None
    prompts: int | None = None
    wrapper: str
    plain_text_tokens: int
    deepspeed: DeepSpeed
    seed: int


class ValidateRun(Section):
    """Slice of validate_run."""

    decoding: Decoding
    max_new_tokens: int
    dev_rows: int | None
    dev_seed: int
    wrapper: str
    sampling: Sampling


class SelectCheckpoint(Section):
    """Slice of select_checkpoint."""

    name: str
    rule: SelectionRule
