"""Config slices of the teacher's samples and candidate sets."""

from distill.config.base import Section
from distill.config.sampling import Sampling
from distill.config.training import DeepSpeed


class SampleTeacher(Section):
    """Slice of sample_teacher: one shard of the prompts."""

    shard: int
    shards: int
    prompts: int | None
    held_out_prompts: int
    per_prompt: int
    temperature: float
    top_p: float
    max_new_tokens: int
    wrapper: str
    sampling: Sampling
    seed: int


class GatherSamples(Section):
    """Slice of gather_samples: it has none."""


class AdoptSamples(Section):
    """Slice of adopt_samples: what a file of fixed records leaves out."""

    wrapper: str
    prompt_tokens: int
    response_tokens: int
    held_out_prompts: int


class BuildCandidates(Section):
    """Slice of build_candidates: one shard of the samples."""

    shard: int
    shards: int
    p_max: float
    batch: int
    deepspeed: DeepSpeed
