"""The config's `deepspeed` section: how every training stage runs."""

from typing import Literal

from pydantic import Field

from distill.config.base import Section


class DeepSpeed(Section):
    """How DeepSpeed runs every training stage. It belongs to the study, not to the machine's profile."""

    processes: int = Field(1, ge=1, description="Processes (GPUs) of a training stage, on all its nodes together.")
    nodes: int = Field(
        1,
        ge=1,
        exclude=True,  # of what stages depend on
        description="Machines of a Slurm cluster that a training stage's processes are spread over evenly; elsewhere "
        "all run on one. It changes no result and reruns nothing.",
    )
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

    @property
    def processes_a_node(self) -> int:
        """Processes on one node, where the teacher's candidate sets and values are computed, too."""
        return self.processes // self.nodes
