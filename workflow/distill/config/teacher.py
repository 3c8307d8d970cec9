"""The config's `teacher` section."""

from pydantic import Field

from distill.config.base import Section
from distill.config.runs import DROPOUT
from distill.config.training import Training


class TeacherRun(Section):
    """The teacher's supervised fine-tuning."""

    select: str = Field("dev_loss", description="Checkpoint rule: dev_loss, dev_METRIC (such as dev_rouge_l) or last.")
    dropout: bool = DROPOUT
    training: Training = Field(
        default_factory=lambda: Training(
            steps=900, batch=16, micro_batch=16, learning_rate=1e-3, warmup_steps=30, evaluate_every=225
        ),
        description="The optimiser's recipe (MiniLLM scripts: lr 5e-5, 10 epochs for GPT-2 1.5B).",
    )
