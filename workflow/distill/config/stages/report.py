"""Config slices of the tables, the figures and the report."""

from typing import Any

from distill.config.base import Section
from distill.config.paper import Paper
from distill.config.sampling import Decoding, Sampling
from distill.config.training import DeepSpeed, Training


class ReportedSystem(Section):
    """A compared model's place in the study.

    Attributes:
        student: the student's name, `student` for the main one; empty for the teacher.
        run: the run's name, `phase1` or `teacher`.
        method: the run's method.
        is_control: whether the others are compared with it.
        seed: the training seed; None for the teacher.
        options: the run's own section without `training`.
        training: its recipe; None for a model supplied from outside, which this study did not train.
    """

    student: str
    run: str
    method: str
    is_control: bool
    seed: int | None
    options: dict[str, Any]
    training: Training | None


class MakeTables(Section):
    """Slice of make_tables.

    Attributes:
        systems: the compared models by name; they, `datasets` and `decodings` give the tables' order.
        decodings: the first one is the primary one.
        processes: of a training run, each on a device of its own.
        paper: which of the paper's models this study repeats.
        published: digest of the paper's numbers.
        seed: of the bootstrap.
    """

    systems: dict[str, ReportedSystem]
    datasets: list[str]
    decodings: dict[str, Decoding]
    processes: int
    paper: Paper | None
    published: str
    seed: int


class RenderTables(Section):
    """Slice of render_tables; the first decoding is the primary one."""

    title: str
    embedded: bool
    decodings: dict[str, Decoding]
    deepspeed: DeepSpeed
    sampling: Sampling


class DrawFigures(Section):
    """Slice of draw_figures.

    Attributes:
        recipes: each system's name without its training seed; they, `datasets` and `decodings` give the order.
        seed: of the bootstrap.
    """

    recipes: dict[str, str]
    datasets: list[str]
    decodings: list[str]
    seed: int


class RenderReport(RenderTables):
    """Slice of render_report, besides that of the tables' page.

    Attributes:
        prompts: how many prompts of each set are shown with their answers.
        folders: the artifacts of each system, as paths in the results folder.
        config: the whole config, which the report shows.
        template: digest of the page's template, style and script.
    """

    prompts: int
    folders: dict[str, list[str]]
    config: dict[str, Any]
    template: str
