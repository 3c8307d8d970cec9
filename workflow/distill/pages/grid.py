"""The grid of the first screen: each system's score on each set, what is decided, and the teacher's share."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from distill.evaluation.efficiency import retention
from distill.metrics.registry import load_metric
from distill.pages.findings import VERDICTS, Outcome
from distill.report.markdown import interval

MARKS = {"higher": "▲", "lower": "▼"}


@dataclass(frozen=True)
class Cell:
    """A system on a set.

    Attributes:
        mean: the score, rounded.
        value: the score in full precision.
        std: its deviation over training seeds, of one over sampling seeds; empty where there is none.
        share: of the first teacher's score, in percent; empty for it, and where its score is 0.
        mark: ▲ or ▼ where the difference to the set's best baseline is decided, ◆ for that baseline; else empty.
        words: what the mark says.
        difference: to the best baseline with its interval, of each training seed; empty where they are not compared.
        is_best: whether it is the highest of the students.
    """

    mean: str
    value: str
    std: str
    share: str
    mark: str
    words: str
    difference: str
    is_best: bool


@dataclass(frozen=True)
class Column:
    """A set: its name, its number of prompts, and its metric's title."""

    name: str
    prompts: str
    metric: str


@dataclass(frozen=True)
class Grid:
    """The scores of one decoding: the cells of each recipe in the order of the columns, teachers first."""

    decoding: str
    columns: Sequence[Column]
    rows: dict[str, list[Cell]]
    is_compared: bool


def grids(outcome: Outcome) -> list[Grid]:
    """Returns a grid a decoding, the primary one first."""
    rows = outcome.tables["scores"]
    columns = {row["dataset"]: Column(row["dataset"], row["prompts"], load_metric(row["metric"]).title) for row in rows}
    return [
        _grid(outcome, decoding, list(columns.values())) for decoding in dict.fromkeys(row["decoding"] for row in rows)
    ]


def _grid(outcome: Outcome, decoding: str, columns: Sequence[Column]) -> Grid:
    scores = outcome.scores
    teachers = outcome.teachers
    names = dict.fromkeys([*teachers, *(name for name, *_ in scores)])
    best = {column.name: outcome.best(set(names) - {*teachers}, column.name, decoding) for column in columns}
    strongest = {column.name: outcome.best(outcome.baselines, column.name, decoding) for column in columns}
    cells: dict[str, list[Cell]] = {name: [] for name in names}
    for name, column in product(names, columns):
        score, baseline = scores[name, column.name, decoding], strongest[column.name]
        teacher = scores[teachers[0], column.name, decoding].mean if teachers and name != teachers[0] else None
        share = retention(score.mean, teacher)
        compared = outcome.compared(name, baseline, column.name, decoding) if baseline else []
        verdicts = {row["verdict"] for row in compared}
        mark = MARKS.get(verdicts.pop(), "") if len(verdicts) == 1 else ""
        verdict = next((one for one, sign in MARKS.items() if sign == mark), "")
        is_baseline = name == baseline
        cells[name].append(
            Cell(
                mean=f"{score.mean:.1f}",
                value=repr(score.mean),
                std="" if score.std is None else f"{score.std:.1f}",
                share="" if share is None else f"{share:.0%}",
                mark="◆" if is_baseline else mark,
                words="the best baseline" if is_baseline else f"{VERDICTS[verdict]} the best baseline" if mark else "",
                difference="; ".join(f"{float(row['difference']):+.1f} {interval(row)}" for row in compared),
                is_best=name == best[column.name],
            )
        )
    return Grid(decoding, columns, cells, any(strongest.values()))
