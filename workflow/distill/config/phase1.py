"""The config's `phase1` sections."""

from pydantic import Field

from distill.config.base import Section
from distill.config.runs import DROPOUT
from distill.config.training import Training


class Phase1Run(Section):
    """The student's phase 1: a short supervised fine-tuning that phase 2 starts from."""

    select: str = Field("dev_loss", description="Checkpoint rule (paper: lowest dev loss).")
    dropout: bool = DROPOUT
    training: Training = Field(
        default_factory=lambda: Training(steps=100, learning_rate=4e-3, warmup_steps=30, evaluate_every=50),
        description="The optimiser's recipe (paper: 3 epochs).",
    )
