"""The config's `teacher` section."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from distill.config.base import Section
from distill.config.remote import RemoteModel
from distill.config.runs import DROPOUT
from distill.config.training import Training


class TeacherRun(Section):
    """The teacher's supervised fine-tuning."""

    kind: Literal["trained"] = Field("trained", description="`trained`: fine-tuned here, or given as external.teacher.")
    select: str = Field("dev_loss", description="Checkpoint rule: dev_loss, dev_METRIC (such as dev_rouge_l) or last.")
    dropout: bool = DROPOUT
    training: Training = Field(
        default_factory=lambda: Training(
            steps=900, batch=16, micro_batch=16, learning_rate=1e-3, warmup_steps=30, evaluate_every=225
        ),
        description="The optimiser's recipe (MiniLLM scripts: lr 5e-5, 10 epochs for GPT-2 1.5B).",
    )


class TextTeacher(Section):
    """A teacher that only speaks, such as a service: there are its texts, `external.samples`, and no model of it."""

    kind: Literal["texts"] = Field(
        description="`texts`: it is known by external.samples alone; methods that need its probabilities are refused."
    )


class _ApiKind(Section):
    """What stands first in the section."""

    kind: Literal["api"] = Field(
        description="`api`: a model behind an OpenAI-compatible server, asked for texts as `teacher_samples` says; "
        "methods that need its probabilities are refused."
    )


class ApiTeacher(RemoteModel, _ApiKind):
    """A teacher that only speaks, and is asked by the study itself."""

    section: ClassVar[str] = "teacher"
    fewer: ClassVar[str] = "teacher_samples.prompts"
    without: ClassVar[str] = "give its texts as external.samples with teacher.kind texts"
    kept: ClassVar[str] = "answers that came in are kept"


SPEAKING = (TextTeacher, ApiTeacher)
"""Teachers of which there is no model."""


def _kind(given: Any) -> Any:
    return given.get("kind", "trained") if isinstance(given, dict) else getattr(given, "kind", None)


Teacher = Annotated[
    Annotated[TeacherRun, Tag("trained")] | Annotated[TextTeacher, Tag("texts")] | Annotated[ApiTeacher, Tag("api")],
    Discriminator(
        _kind, custom_error_type="kind", custom_error_message="expected a section of kind trained, texts or api"
    ),
]
