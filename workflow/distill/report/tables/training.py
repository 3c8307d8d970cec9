"""Seconds are those inside optimiser updates, without start, evaluation and saving; tokens are those that went through
the student. The gradient norm is taken before clipping. Dev losses of different methods are not comparable.
"""

from collections.abc import Mapping
from statistics import fmean

from distill.checkpoints import DEV
from distill.config.slices.make_tables import MakeTables
from distill.config.slices.reported_system import ReportedSystem
from distill.report.evidence import COMPUTED, MEASURED, Evidence, dev_answers, logged
from distill.report.markdown import Forms, number, table
from distill.report.measured import Rows, Study
from distill.report.table import Table


def training_row(run: str, system: ReportedSystem, metrics: Rows, dev: Rows, selected: int) -> dict:
    """Returns what a run took: seconds are those inside updates, without evaluation and saving.

    Args:
        run: the run's name.
        system: its method and recipe.
        metrics: a row an update (metrics.jsonl).
        dev: a row a checkpoint (dev.jsonl).
        selected: the selected update.
    """
    assert system.training is not None, "a run that was trained here"
    tokens, seconds = (sum(row[name] for row in metrics) for name in ("tokens", "seconds"))
    return {
        "run": run,
        "method": system.method,
        "updates": len(metrics),
        "sequences": len(metrics) * system.training.batch,
        "tokens": tokens,
        "mean_gradient_norm": fmean(row["gradient_norm"] for row in metrics),
        "final_dev_loss": dev[-1]["loss"],
        "selected_update": selected,
        "tokens_per_second": tokens / seconds,
        "seconds_per_update": seconds / len(metrics),
        "seconds": seconds,
    }


def trained(study: Study) -> list[dict]:
    """Returns what every run took."""
    systems, measured = study.settings.systems, study.measured
    return [
        training_row(run, systems[run], measured.metrics[run], measured.dev[run], selected)
        for run, selected in study.selected.items()
    ]


def _evidence(row: Mapping[str, str], column: str, settings: MakeTables) -> Evidence:
    run = row["run"]
    if column == "final_dev_loss":
        return logged(MEASURED, [run], "dev loss of each checkpoint", DEV)
    if column == "selected_update":
        return Evidence(COMPUTED, dev_answers(run), runs=[run])
    return logged(COMPUTED, [run], "a row an update")


FORMS: Forms = {
    "run": "run",
    "method": "method",
    "updates": "updates",
    "sequences": "sequences",
    "tokens": lambda row: f"{int(row['tokens']):,}",
    "gradient norm": number("mean_gradient_norm", 2),
    "final dev loss": number("final_dev_loss", 3),
    "tokens/s": number("tokens_per_second", 0),
    "s an update": number("seconds_per_update", 3),
    "s in total": number("seconds", 0),
}
_TIMES = ("tokens_per_second", "seconds_per_update", "seconds")

TABLE = Table(
    order=180,
    title="Training",
    columns=(
        *("run", "method", "updates", "sequences", "tokens", "mean_gradient_norm", "final_dev_loss"),
        *("selected_update", *_TIMES),
    ),
    keys=("run",),
    times=_TIMES,
    rows=trained,
    evidence=_evidence,
    markdown=lambda view: [*view.head(), *table(FORMS, view.rows)],
)
