"""Mean over training seeds and its sample standard deviation; in brackets the number of training seeds and, for scale,
the mean standard deviation over sampling seeds of one trained model. The tables of answers and options show the
first training seed; the CSV has all.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from statistics import fmean

from distill.config.slices.make_tables import MakeTables
from distill.evaluation.statistics import mean_std
from distill.report.evidence import cells_of, scored
from distill.report.markdown import Part, fixed, fold_long, pivot
from distill.report.measured import Rows, named, spread
from distill.report.recipes import Cell, recipes
from distill.report.table import Table, View


def training_seed_rows(cells: Mapping[Cell, Rows], settings: MakeTables) -> Iterator[dict]:
    """Yields the score over training seeds of what was trained with several, beside the mean deviation over sampling
    seeds, which is None where each model answered once.
    """
    for name, members in recipes(settings.systems).items():
        if len(members) == 1:
            continue
        for dataset, decoding in product(settings.datasets, settings.decodings):
            spreads = [spread(cells[member, dataset, decoding]) for member in members]
            trained = mean_std([row["mean"] for row in spreads])
            yield named((name, dataset, decoding)) | {
                "student": settings.systems[name].student,
                "method": settings.systems[name].method,
                "metric": settings.metrics[dataset],
                "mean": trained.mean,
                "std_training": trained.std,
                "training_seeds": trained.n,
                "std_sampling": None if spreads[0]["std"] is None else fmean(row["std"] for row in spreads),
                "sampling_seeds": spreads[0]["seeds"],
                "prompts": spreads[0]["prompts"],
            }


def _cell(row: Mapping[str, str]) -> str:
    sampling = f"; {fixed(row['std_sampling'])} over sampling" if row["std_sampling"] else ""
    return f"{fixed(row['mean'])} ± {fixed(row['std_training'])} ({row['training_seeds']} seeds{sampling})"


def _markdown(view: View) -> list[Part]:
    rows = [row for row in view.rows if row["decoding"] == view.primary]
    return [*view.head(f"Training seeds, {view.primary}"), *fold_long(pivot(rows, ["system"], _cell))]


TABLE = Table(
    order=40,
    title="Training seeds",
    columns=(
        *("system", "student", "method", "dataset", "metric", "decoding", "mean", "std_training"),
        *("training_seeds", "std_sampling", "sampling_seeds", "prompts"),
    ),
    keys=("system", "dataset", "decoding"),
    given=("training_seeds",),
    rows=lambda study: training_seed_rows(study.cells, study.settings),
    evidence=lambda row, column, settings: scored(cells_of(row, settings)),
    markdown=_markdown,
)
