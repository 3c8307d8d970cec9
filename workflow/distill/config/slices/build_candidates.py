"""The slice of the config that `build_candidates` depends on."""

from distill.config.candidates import Candidates
from distill.config.deepspeed import DeepSpeed


class BuildCandidates(Candidates):
    """Slice of build_candidates, besides the section itself: one shard of the samples."""

    shard: int
    shards: int
    deepspeed: DeepSpeed
