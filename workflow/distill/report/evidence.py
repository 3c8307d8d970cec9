"""What stands behind a number of a table, told by what the study measured and not by where an archive keeps it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distill.checkpoints import METRICS, SELECTION
from distill.config.slices.make_tables import MakeTables
from distill.report.published import published
from distill.report.recipes import Cell, recipes

SCORED, COUNTED, COMPUTED = "scored again from the answers", "counted again from the verdicts", "computed again"
MEASURED, SET, PUBLISHED = "read where it was measured", "a setting of the study", "a number of the paper"
"""How a cell's number is had again."""


@dataclass(frozen=True)
class Source:
    """Files of one kind.

    Attributes:
        kind: an input of make_tables (`scores`, `entropies`, `candidates`, `runs`, `models`, `verdicts`, `rankings`,
            `efficiency`),
            `validation` for the dev answers of a run, `hours` for the records of jobs, `settings` for a record's slice
            of the config (that of make_tables, or of the verdicts `of`), or `paper` for a line of the paper's tables.
        of: the system, run or pair, or what hours were spent on; None for all.
        file: its name in the folder.
        what: what its lines are.
        where: values that its lines hold; empty for the whole file.
    """

    kind: str
    of: str | None = None
    file: str = ""
    what: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """What stands behind a cell.

    Attributes:
        how: how its number is had again.
        sources: what it is computed from at first hand.
        answers: the (system, dataset, decoding) whose answers are behind it.
        seed: the one sampling seed of these answers; None for all.
        runs: the training runs whose logs or selection are behind it.
    """

    how: str
    sources: Sequence[Source]
    answers: Sequence[Cell] = ()
    seed: int | None = None
    runs: Sequence[str] = ()


def cells_of(
    row: Mapping[str, str], settings: MakeTables, *others: str | None, datasets: Sequence[str] | None = None
) -> list[Cell]:
    """Returns the cells of a row's recipe and of others, every training seed's, on the row's set or several."""
    members, datasets = recipes(settings.systems), datasets or [row["dataset"]]
    return [
        (system, dataset, row["decoding"])
        for name in (row["system"], *filter(None, others))
        for system in members.get(name, [name])
        for dataset in datasets
    ]


def scored(cells: Sequence[Cell], by_prompt: bool = False, seed: int | None = None) -> Evidence:
    """Returns the evidence of a number that is computed from the scores of some answers, by seed or by prompt."""
    file, what = ("prompts.jsonl", "scores by prompt") if by_prompt else ("seeds.jsonl", "scores by seed")
    sources = []
    for system, dataset, decoding in cells:
        where = {"dataset": dataset, "decoding": decoding} | ({} if seed is None else {"seed": seed})
        sources.append(Source("scores", system, file, what, where))
    return Evidence(SCORED, sources, [*cells], seed)


def of_row(row: Mapping[str, str], *_: object, seed: int | None = None) -> Evidence:
    """Returns the evidence of a number over the sampling seeds of a row's system, or of one of them."""
    return scored([(row["system"], row["dataset"], row["decoding"])], seed=seed)


def logged(how: str, runs: Sequence[str], what: str, file: str = METRICS) -> Evidence:
    """Returns the evidence of a number from the logs of runs."""
    return Evidence(how, [Source("runs", run, file, what) for run in runs], runs=[*runs])


def entropies(systems: Iterable[str]) -> Evidence:
    """Returns the evidence of entropies."""
    what = "mean entropy along the model's own answers, measured by generate_responses"
    return Evidence(MEASURED, [Source("entropies", system, "entropy.json", what) for system in systems])


def candidate_sets(*_: object) -> Evidence:
    """Returns the evidence of a number about the teacher's candidate sets."""
    what = "statistics of the teacher's candidate sets, measured by build_candidates"
    return Evidence(MEASURED, [Source("candidates", None, "statistics.json", what)])


def dev_answers(run: str, update: int | None = None) -> list[Source]:
    """Returns the sources of a run's dev score, of one update or of all."""
    what = "dev answers" + ("" if update is None else f" of update {update}")
    return [
        Source("models", run, SELECTION, "the checkpoints and their dev scores"),
        Source("validation", run, "generations.jsonl", what, {} if update is None else {"update": update}),
    ]


def of_paper(table: str, row: dict[str, str]) -> Evidence:
    """Returns the evidence of a number of the paper, from its row in one of the paper's tables."""
    line = published(table).index(row) + 2
    return Evidence(PUBLISHED, [Source("paper", None, f"{table}.csv", "as the paper prints it", {"line": line})])
