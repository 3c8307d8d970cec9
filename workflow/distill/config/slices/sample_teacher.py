"""The slice of the config that `sample_teacher` depends on."""

from distill.config.sampling import Sampling
from distill.config.teacher_samples import TeacherSamples


class SampleTeacher(TeacherSamples):
    """Slice of sample_teacher, besides the section itself: one shard of the prompts."""

    shard: int
    wrapper: str
    sampling: Sampling
    seed: int
