"""Config sections of training runs: what every method's section shares, the teacher's, and phase 1's."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from distill.config.base import Section
from distill.config.training import Training

if TYPE_CHECKING:
    from distill.config.study import Study

SelectionRule = Literal["dev_rouge", "dev_loss", "last"]
Need = Literal["teacher_samples", "candidate_sets", "teacher_logits", "plain_text", "prompts"]
"""`prompts`: those that the teacher is sampled on, without responses; what the other runs get as samples."""

DROPOUT = Field(True, description="Train with the model's own dropout rates (true) or without dropout (false).")


class Run(Section):
    """A compared run. Each method has a section of its own, which adds the method's options to these keys.

    Attributes:
        is_control: runs of methods that are none are judged against it, and every system is compared with it.
    """

    is_control: ClassVar[bool] = False

    method: str = Field(description="The method: the name of its file.")
    start: Literal["base", "phase1"] = Field("phase1", description="Where training starts: base or phase1.")
    select: SelectionRule = Field(
        "dev_rouge",
        description="Checkpoint rule: dev_rouge (best dev Rouge-L), dev_loss (lowest dev loss) or last; for the first "
        "two a start at phase 1 is a candidate, too.",
    )
    dropout: bool = DROPOUT
    training: Training = Field(description="The optimiser's recipe.")

    @property
    def needs(self) -> frozenset[Need]:
        """What the run reads besides the instruction data and its start model."""
        return frozenset()

    def problems(self, study: "Study") -> Iterator[str]:
        """Yields what does not fit the rest of the study, each as `key: expected ..., found ...; what to do`."""
        if "plain_text" in self.needs and study.data.plain_text is None:
            yield "plain_text_weight: expected 0 since data.plain_text is null; set it to 0 or name a data.plain_text"


class TeacherRun(Section):
    """The teacher's supervised fine-tuning."""

    select: SelectionRule = Field("dev_loss", description="Checkpoint rule: dev_loss, dev_rouge or last.")
    dropout: bool = DROPOUT
    training: Training = Field(
        default_factory=lambda: Training(
            steps=900, batch=16, micro_batch=16, learning_rate=1e-3, warmup_steps=30, evaluate_every=225
        ),
        description="The optimiser's recipe (MiniLLM scripts: lr 5e-5, 10 epochs for GPT-2 1.5B).",
    )


class Phase1Run(Section):
    """The student's phase 1: a short supervised fine-tuning that phase 2 starts from."""

    select: SelectionRule = Field("dev_loss", description="Checkpoint rule (paper: lowest dev loss).")
    dropout: bool = DROPOUT
    training: Training = Field(
        default_factory=lambda: Training(steps=100, learning_rate=4e-3, warmup_steps=30, evaluate_every=50),
        description="The optimiser's recipe (paper: 3 epochs).",
    )
