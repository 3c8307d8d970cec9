"""Rouge-L of every sampling seed."""

from collections.abc import Iterator, Mapping

from distill.report.evidence import of_row
from distill.report.measured import Rows, named
from distill.report.recipes import Cell
from distill.report.table import Table


def rouge_seed_rows(cells: Mapping[Cell, Rows]) -> Iterator[dict]:
    """Yields every seed's Rouge-L."""
    for cell, rows in cells.items():
        for row in sorted(rows, key=lambda row: row["seed"]):
            yield named(cell) | {"seed": row["seed"], "rouge_l": row["rouge_l"]}


TABLE = Table(
    order=30,
    title="Rouge-L of every sampling seed",
    columns=("system", "dataset", "decoding", "seed", "rouge_l"),
    keys=("system", "dataset", "decoding", "seed"),
    rows=lambda study: rouge_seed_rows(study.cells),
    evidence=lambda row, column, settings: of_row(row, seed=int(row["seed"])),
    beside="rouge",
)
