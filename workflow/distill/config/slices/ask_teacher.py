"""The slice of the config that `ask_teacher` depends on."""

from distill.config.base import Section
from distill.config.teacher import ApiTeacher


class AskTeacher(Section):
    """Slice of ask_teacher; `teacher` is asked, `seed` is the study's, the others are those of `teacher_samples`."""

    teacher: ApiTeacher
    per_prompt: int
    prompts: int | None
    held_out_prompts: int
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int
