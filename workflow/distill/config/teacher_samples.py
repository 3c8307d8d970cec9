"""The config's `teacher_samples` section."""

from pydantic import Field

from distill.config.base import Section


class TeacherSamples(Section):
    """The distillation corpus D*: responses sampled from the fine-tuned teacher."""

    per_prompt: int = Field(4, ge=1, description="Responses a prompt (paper, training section: 8).")
    prompts: int | None = Field(
        2000,
        ge=1,
        description="Sample the first so many training prompts, labelled or not; null takes all (paper). MiniLLM "
        "answers the same prompts.",
    )
    held_out_prompts: int = Field(
        100, ge=1, description="Dev prompts sampled besides, on which phase 2's own objective is watched; at least 1."
    )
    temperature: float = Field(1.0, gt=0, description="Sampling temperature; above 0 (paper: 1).")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus mass of the sampling; in (0, 1] (paper: unstated).")
    max_new_tokens: int = Field(40, ge=1, description="Longest response in tokens (paper: 256); at least 1.")
    shards: int = Field(
        2,
        ge=1,
        description="Independent jobs, of sampling and of candidate sets; results do not depend on it; at least 1.",
    )
