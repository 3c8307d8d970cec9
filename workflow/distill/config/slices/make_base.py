"""The slice of the config that `make_base` depends on."""

from distill.config.base import Section
from distill.config.base_models import StudentModel
from distill.config.deepspeed import DeepSpeed


class MakeBase(Section):
    """Slice of make_base; `role` is teacher, student or the name of a further student."""

    role: str
    model: StudentModel
    vocabulary_size: int
    plain_text_tokens: int
    deepspeed: DeepSpeed
    seed: int
