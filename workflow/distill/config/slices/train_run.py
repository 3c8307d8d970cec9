"""The slice of the config that `train_run` depends on."""

from typing import Any

from distill.config.base import Section
from distill.config.deepspeed import DeepSpeed
from distill.config.training import Length


class RolloutEngine(Section):
    """The engine that answers prompts for a run outside its process: its environment, and the settings it opens with.

    `settings`: the fields of `EngineSettings`, so that a key of the section `sampling` concerns such runs alone.
    """

    python: str
    lock: str
    settings: dict[str, Any]


class TrainRun(Section):
    """Slice of train_run.

    `run` is the section of the run's method, without `select`. `plugin` is the method's file if it is not one of the
    package. `updates_of` is the length of the run whose number of updates is copied. `labelled_rows` and `prompts` are
    how many rows of train the run may take responses or prompts from; None for all. `rollouts` is None where the
    training samples in its own process.
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
    rollouts: RolloutEngine | None = None
    seed: int
