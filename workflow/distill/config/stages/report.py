"""Config slices of the tables."""

from distill.config.base import Section
from distill.config.sampling import Decoding, Sampling
from distill.config.training import DeepSpeed


class ReportedRun(Section):
    """What the tables say about a training run besides its logs; `batch` is in sequences an update."""

    method: str
    batch: int


class MakeTables(Section):
    """Slice of make_tables.

    `systems`, `datasets` and `decodings` give the tables' order; the first decoding is the primary one. `runs` are the
    runs trained by this study; a model supplied from outside has none. Systems are compared with the `baselines` that
    are among them. `seed` is that of the bootstrap.
    """

    systems: list[str]
    datasets: list[str]
    decodings: list[str]
    runs: dict[str, ReportedRun]
    baselines: list[str] = ["phase1", "sft", "sft_continued"]
    seed: int


class RenderTables(Section):
    """Slice of render_tables; the first decoding is the primary one."""

    title: str
    embedded: bool
    decodings: dict[str, Decoding]
    deepspeed: DeepSpeed
    sampling: Sampling
