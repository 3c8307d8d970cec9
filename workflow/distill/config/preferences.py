"""The config's `preferences` section: pairs of responses, the teacher that learns from them, and its values."""

from typing import Annotated, Literal

from pydantic import Field

from distill.config.base import Section
from distill.config.training import Training

BETA = Field(
    0.1, gt=0, description="Scale of the implicit reward beta log q / q_start; above 0 (released recipe: 0.01)."
)


class WorldPairs(Section):
    """Pairs from the embedded world's grammar, told apart by how many concepts are wrong."""

    kind: Literal["world"] = Field("world", description="`world`: the embedded world's generator.")
    train: int = Field(3000, ge=1, description="Pairs to learn from; at least 1.")
    dev: int = Field(300, ge=1, description="Pairs that training is watched on; at least 1.")
    test: int = Field(1000, ge=1, description="Pairs that every system ranks in the end; at least 1.")
    flipped: float = Field(
        0.1, ge=0, lt=0.5, description="Share of the training labels that are turned round; in [0, 0.5)."
    )


class FilePairs(Section):
    """Pairs from local JSONL files of {"prompt", "chosen", "rejected"}, three strings."""

    kind: Literal["file"] = Field("file", description="`file`: local files.")
    train: str = Field(description="Path of the pairs to learn from; `${NAME}` is taken from the environment.")
    test: str = Field(description="Path of the pairs that every system ranks in the end.")
    dev: int = Field(200, ge=1, description="Pairs that leave train and watch the training; at least 1.")


Pairs = Annotated[WorldPairs | FilePairs, Field(discriminator="kind")]


class PreferenceTeacher(Section):
    """DPO of the fine-tuned teacher, its own reference; the system `teacher_dpo`."""

    select: str = Field("dev_loss", description="Checkpoint rule: dev_loss, dev_METRIC (such as dev_rouge_l) or last.")
    beta: float = BETA
    training: Training = Field(description="The optimiser's recipe (released: lr 5e-7, 1 epoch of 64 pairs).")


class Values(Section):
    """The teacher's soft values along both sides of the training pairs: scale log sum_a p(a | s)^exponent."""

    exponent: float = Field(
        0.7, gt=0, description="Of the probabilities; above 0; at 1 all values are 0 (released code: 0.7)."
    )
    scale: float = Field(1.0, gt=0, description="Of the value; exponent 1 / b and scale b make a temperature b.")
    batch: int = Field(32, ge=1, description="Pairs a forward pass of the models that score them; at least 1.")


class Preferences(Section):
    """What the methods that learn from preferences need."""

    pairs: Pairs = Field(description="The pairs; kind: world or file.")
    teacher: PreferenceTeacher = Field(description="Preference training of the teacher.")
    values: Values = Field(default_factory=Values, description="The teacher's values (method tvkd).")
