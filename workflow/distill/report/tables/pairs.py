"""Which pairs of systems the study decides: the difference in {metric}, row minus column, on the first set in the
primary decoding, with its p-value adjusted by Holm's method for all pairs of one student; bold where it is below
0.05. Intervals and p-values are those of the comparisons. Several training seeds are averaged prompt by prompt; how
much another training seed would move a system is not in the p-value.
"""

from collections.abc import Iterator, Mapping

from distill.config.generation import primary_decoding
from distill.config.slices.make_tables import MakeTables
from distill.evaluation.p_values import bound
from distill.report.differences import COLUMNS, tested
from distill.report.evidence import Evidence, cells_of, scored
from distill.report.markdown import Part, fixed, fold_long, grid, show, unique
from distill.report.recipes import Scores, all_pairs, pooled, recipes
from distill.report.table import Table, View


def pair_rows(scores: Scores, settings: MakeTables) -> Iterator[dict]:
    """Yields every pair of a student's recipes, the teacher among them, on the first set in the primary decoding.

    Several training seeds are averaged prompt by prompt. All pairs of a student are tested together.
    """
    pool, members = pooled(scores, settings.systems), recipes(settings.systems)
    dataset, decoding = settings.datasets[0], primary_decoding(settings.decodings)
    for student, pairs in all_pairs(settings.systems).items():
        for (system, other), columns in tested(pairs, pool, dataset, decoding, settings.seed):
            about = {"student": student, "system": system, "other": other, "training_seeds": len(members[system])}
            yield about | columns | {"metric": settings.metrics[dataset]}


def _evidence(row: Mapping[str, str], column: str, settings: MakeTables) -> Evidence:
    names = [row["other"]]
    if column == "p_adjusted":
        names = [name for pair in all_pairs(settings.systems)[row["student"]] for name in pair]
    return scored(unique(cells_of(row, settings, *names)), by_prompt=True)


def p_value(row: Mapping[str, str]) -> str:
    """Returns a row's adjusted p-value; where no resample was on the other side of 0 it is an upper bound."""
    p = float(row["p_adjusted"])
    return bound(p, int(row["tests"])) or ("< 0.001" if p < 0.001 else f"{p:.3f}")


def _cell(row: Mapping[str, str]) -> str:
    difference = fixed(row["difference"], 1, True)
    return f"{difference if row['verdict'] == 'undecided' else f'**{difference}**'} ({p_value(row)})"


def _markdown(view: View) -> list[Part]:
    parts = view.head()
    for student in unique(row["student"] for row in view.rows):
        own = [row for row in view.rows if row["student"] == student]
        cells = {(row["system"], row["other"]): show(_cell, row) for row in own}
        names = unique(row["other"] for row in own)
        lines = [
            [name, *(cells.get((name, other), "") for other in names)] for name in unique(row["system"] for row in own)
        ]
        decided = sum(row["verdict"] != "undecided" for row in own)
        where = f"{own[0]['dataset']}, {own[0]['prompts']} prompts, {own[0]['decoding']}"
        parts.append(f"{student}: {decided} of {len(own)} pairs are decided ({where}).")
        parts += fold_long(grid(["system", *names], lines))
    return parts


TABLE = Table(
    order=70,
    title="Decided pairs",
    columns=("student", "system", "other", "training_seeds", "dataset", "metric", "decoding", *COLUMNS),
    keys=("student", "system", "other"),
    given=("training_seeds", "tests"),
    rows=lambda study: pair_rows(study.scores, study.settings),
    evidence=_evidence,
    markdown=_markdown,
)
