"""Config sections of training: the optimiser's recipe of one run, and how DeepSpeed runs every training stage."""

from typing import Literal

from pydantic import Field, model_validator

from distill.config.base import Section


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


class DeepSpeed(Section):
    """How DeepSpeed runs every training stage. It belongs to the study, not to the machine's profile."""

    processes: int = Field(1, ge=1, description="Processes (GPUs) of a training stage; above 1 torchrun starts them.")
    threads: int = Field(
        1, ge=1, description="CPU threads a process; part of the study, since it can change last digits."
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="Device of the training stages: cpu or cuda.")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="Arithmetic of the model: fp32 or bf16; losses are fp32."
    )
    zero_stage: Literal[0, 1, 2] = Field(0, description="ZeRO stage: 0, 1 or 2.")
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass to save memory."
    )
