"""The config's `models` section: the base models of teacher and student, and their shared tokenizer."""

from pydantic import Field

from distill.config.base import Section
from distill.config.base_models import Architecture, ScratchModel, StudentModel, TeacherModel
from distill.config.training import Training


def _pretraining(steps: int, learning_rate: float) -> Training:
    return Training(
        steps=steps, batch=16, micro_batch=16, learning_rate=learning_rate, warmup_steps=30, evaluate_every=steps
    )


class Models(Section):
    """Base models before any fine-tuning. Teacher and student share one vocabulary."""

    vocabulary_size: int = Field(
        1024,
        ge=257,
        description="Size of the byte-level BPE vocabulary trained for scratch models; at least 257: the bytes and the "
        "end of text, nothing merged. Unused otherwise.",
    )
    teacher: TeacherModel = Field(
        default_factory=lambda: ScratchModel(
            hidden_size=160, layers=4, heads=5, pretraining=_pretraining(steps=700, learning_rate=2e-3)
        ),
        description="The teacher's base. kind: hub, folder or scratch (paper: Qwen-2.5 3B, GPT-2 1.5B, OPT 6.7B).",
    )
    further_architectures: list[Architecture] = Field(
        [],
        description="For a scratch student: train one more student of the same shape for each of these architectures "
        "(qwen2, gpt2, opt), named after it.",
    )
    student: StudentModel = Field(
        default_factory=lambda: ScratchModel(
            hidden_size=64, layers=1, heads=2, pretraining=_pretraining(steps=300, learning_rate=4e-3)
        ),
        description="The student's base. kind: hub, folder, scratch or pruned (paper: Qwen-2.5 0.5B, GPT-2 120M to "
        "760M, OPT 125M to 1.3B).",
    )
