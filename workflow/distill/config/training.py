"""The config's `training` sections: the optimiser's settings of one run."""

from typing import Literal

from pydantic import Field, model_validator

from distill.config.base import Section


class Length(Section):
    """How long a run trains: `steps` updates, or `epochs` in updates of `batch` sequences."""

    steps: int | None
    epochs: float | None
    batch: int | None


class Training(Section):
    """One training recipe. Length is given in `epochs` or `steps`, never both."""

    epochs: float | None = Field(
        None, gt=0, description="Passes over the training data; above 0; null if steps is given."
    )
    steps: int | None = Field(None, ge=1, description="Optimiser updates; at least 1; null if epochs is given.")
    batch: int = Field(
        32, ge=1, description="Sequences an optimiser update, over all processes (paper: 32 SFT, 64 BD)."
    )
    micro_batch: int = Field(
        32, ge=1, description="Sequences a forward pass of one process; batch is a multiple of micro_batch x processes."
    )
    learning_rate: float = Field(gt=0, description="Peak learning rate; above 0 (paper: 5e-6 in phase 2).")
    scheduler: Literal["cosine", "constant"] = Field("cosine", description="Decay after warm-up: cosine or constant.")
    warmup_steps: int = Field(0, ge=0, description="Linear warm-up updates; at least 0 (script: 100 in phase 2).")
    schedule_steps: int | None = Field(
        None, ge=1, description="Updates over which cosine falls to 0; null means the run's own length (script: 5,000)."
    )
    weight_decay: float = Field(
        0.01, ge=0, description="AdamW weight decay, not of biases and norms; at least 0 (script: 1e-6 in phase 2)."
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW beta 1; in [0, 1).")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW beta 2; in [0, 1) (script: 0.95 in phase 2).")
    epsilon: float = Field(1e-8, gt=0, description="AdamW epsilon; above 0.")
    gradient_clip: float = Field(1.0, ge=0, description="Global gradient-norm clip; 0 turns it off (script: 1.0).")
    evaluate_every: int = Field(
        100, ge=1, description="Updates between checkpoints, each evaluated on dev data (script: 100); at least 1."
    )

    @model_validator(mode="after")
    def _length_and_batch(self) -> "Training":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"give exactly one of epochs and steps (found epochs={self.epochs}, steps={self.steps})")
        if self.batch % self.micro_batch:
            raise ValueError(f"batch {self.batch} must be a multiple of micro_batch {self.micro_batch}")
        return self

    @property
    def length(self) -> Length:
        """The length alone, so that a run which copies it depends on nothing else."""
        if self.steps:
            return Length(steps=self.steps, epochs=None, batch=None)
        return Length(steps=None, epochs=self.epochs, batch=self.batch)
