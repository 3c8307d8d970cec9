"""The slice of the config that `make_tables` depends on."""

from distill.config.base import Section
from distill.config.generation import Decoding
from distill.config.paper import Paper
from distill.config.slices.reported_system import ReportedSystem


class MakeTables(Section):
    """Slice of make_tables.

    Attributes:
        systems: the compared models by name; they, `datasets` and `decodings` give the tables' order.
        metrics: the name of each dataset's metric.
        decodings: the first one is the primary one.
        processes: of a training run, each on a device of its own.
        paper: which of the paper's models this study repeats.
        published: digest of the paper's numbers.
        seed: of the bootstrap.
        labels: what stands for the name of a system in LaTeX.
        price_per_hour: of the machine, in `currency`; None for no cost.
    """

    systems: dict[str, ReportedSystem]
    datasets: list[str]
    metrics: dict[str, str]
    decodings: dict[str, Decoding]
    processes: int
    paper: Paper | None
    published: str
    seed: int
    labels: dict[str, str] = {}
    price_per_hour: float | None = None
    currency: str = ""
