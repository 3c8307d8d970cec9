"""The config's `models` section: the base models of teacher and student, and their shared tokenizer."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from distill.config.base import Revision, Section
from distill.config.training import Training

Architecture = Literal["qwen2", "gpt2", "opt"]


class HubModel(Section):
    """A model of the Hugging Face Hub at a pinned revision."""

    kind: Literal["hub"] = Field("hub", description="`hub`: a model repository on the Hugging Face Hub.")
    repository: str = Field(description="Model repository, e.g. Qwen/Qwen2.5-0.5B.")
    revision: Revision = Field(description="Pinned commit of the repository: 40 hexadecimal digits.")


class FolderModel(Section):
    """A local Hugging Face folder, or a GGUF file in a local folder."""

    kind: Literal["folder"] = Field("folder", description="`folder`: a local model folder.")
    path: str = Field(
        description="Folder with config, safetensors and tokenizer; `${NAME}` is taken from the environment."
    )
    gguf_file: str | None = Field(None, description="Name of a GGUF file in the folder to read instead of safetensors.")


def _pretraining(steps: int, learning_rate: float) -> Training:
    return Training(
        steps=steps, batch=16, micro_batch=16, learning_rate=learning_rate, warmup_steps=30, evaluate_every=steps
    )


class ScratchModel(Section):
    """A new model of a given shape, pretrained briefly on data.plain_text."""

    kind: Literal["scratch"] = Field("scratch", description="`scratch`: a fresh model, pretrained on data.plain_text.")
    architecture: Architecture = Field("qwen2", description="Architecture: qwen2, gpt2 or opt.")
    hidden_size: int = Field(160, ge=8, description="Model width; a multiple of `heads`, at least 8.")
    layers: int = Field(4, ge=1, description="Number of transformer blocks; at least 1.")
    heads: int = Field(4, ge=1, description="Attention heads; at least 1.")
    initializer_range: float = Field(
        0.06,
        gt=0,
        description="Standard deviation of fresh weights; above 0. Narrow models want more than the usual 0.02.",
    )
    pretraining: Training = Field(description="How the fresh model is pretrained on plain text.")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ScratchModel":
        if self.hidden_size % (2 * self.heads):
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of 2 x heads ({2 * self.heads})")
        return self


class PrunedModel(Section):
    """The teacher's base model with some blocks taken out; student only."""

    kind: Literal["pruned"] = Field("pruned", description="`pruned`: the teacher's base without some of its layers.")
    drop_layers: list[int] = Field(min_length=1, description="Indices (from 0) of the layers to take out.")


TeacherModel = Annotated[HubModel | FolderModel | ScratchModel, Field(discriminator="kind")]
StudentModel = Annotated[HubModel | FolderModel | ScratchModel | PrunedModel, Field(discriminator="kind")]


class Models(Section):
    """Base models before any fine-tuning. Teacher and student share one vocabulary."""

    vocabulary_size: int = Field(
        1024,
        ge=300,
        description="Size of the byte-level BPE vocabulary trained for scratch models; at least 300. Unused otherwise.",
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


class External(Section):
    """Outputs supplied from outside: checked, recorded with their digest, and made by no stage of the study."""

    teacher: str | None = Field(
        None, description="Folder of a fine-tuned teacher (safetensors + tokenizer); null trains one."
    )
    phase1: str | None = Field(None, description="Folder of a phase-1 student; null trains one.")
    samples: str | None = Field(
        None,
        description="Teacher samples: a JSONL file, or a .bin file of records of data.max_prompt_tokens + 1 + "
        "teacher_samples.max_new_tokens ids, as the authors published theirs; null samples the teacher.",
    )
