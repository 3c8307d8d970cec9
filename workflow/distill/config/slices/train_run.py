"""The slice of the config that `train_run` depends on."""

from typing import Any

from distill.config.base import Section
from distill.config.deepspeed import DeepSpeed
from distill.config.training import Length


class TrainRun(Section):
    """Slice of train_run.

    `run` is the section of the run's method, without `select`. `plugin` is the method's file if it is not one of the
    package. `updates_of` is the length of the run whose number of updates is copied. `labelled_rows` and `prompts` are
    how many rows of train the run may take responses or prompts from; None for all.
    """

    name: str
    plugin: str | None = None
    run: dict[str, Any]
    updates_of: Length | None
    labelled_rows: int | None = None
    prompts: int | None = None
    wrapper: str
    plain_text_tokens: int
    deepspeed: DeepSpeed
    seed: int
