"""Config slices of base models and models from outside."""

from typing import Literal

from distill.config.base import Section
from distill.config.models import StudentModel
from distill.config.training import DeepSpeed


class MakeBase(Section):
    """Slice of make_base; `role` is teacher, student or the name of a further student."""

    role: str
    model: StudentModel
    vocabulary_size: int
    plain_text_tokens: int
    deepspeed: DeepSpeed
    seed: int


class CheckModels(Section):
    """Slice of check_models: it has none."""


class AdoptModel(Section):
    """Slice of adopt_model; `name` is the key of `external`."""

    name: Literal["teacher", "phase1"]
