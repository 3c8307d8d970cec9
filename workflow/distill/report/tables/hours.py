"""The paper's Table 3: hours of all updates, whichever checkpoint was selected. Training counts the time inside
updates, what a method samples in training included, without start, evaluation and saving; device hours are hours
times processes. Teacher samples and candidate sets are made once for all runs, as one job after another and with the
start of each; of a resumed job the last try counts. The paper's hours are of its own machines.
"""

from collections.abc import Iterator, Mapping

from distill.config.slices.make_tables import MakeTables
from distill.report import published
from distill.report.evidence import COMPUTED, Evidence, Source, logged
from distill.report.markdown import Form, Part, table
from distill.report.measured import Rows
from distill.report.table import Table, View
from distill.report.tables.training import trained


def hours_rows(training: Rows, shared: Mapping[str, float], settings: MakeTables) -> Iterator[dict]:
    """Yields what all updates of every run took beside the paper's hours (Table 3), then what was spent once for all
    runs.

    Args:
        training: rows of training.csv.
        shared: hours by what they were spent on; each job ran on one device.
        settings: the systems and the number of processes of a run.
    """
    for row in training:
        system, hours = settings.systems[row["run"]], row["seconds"] / 3600
        paper = published.hours_row(system, settings.paper)
        yield {
            "cost": "training",
            "system": row["run"],
            "method": system.method,
            "hours": hours,
            "processes": settings.processes,
            "device_hours": hours * settings.processes,
            "paper_hours": paper and float(paper["hours"]),
            "paper_hardware": paper and paper["hardware"],
        }
    for cost, hours in shared.items():
        once = {"cost": cost, "hours": hours, "processes": 1, "device_hours": hours}
        yield dict.fromkeys(("system", "method", "paper_hours", "paper_hardware")) | once


def _evidence(row: Mapping[str, str], column: str, settings: MakeTables) -> Evidence:
    if row["cost"] != "training":
        return Evidence(COMPUTED, [Source("hours", row["cost"])])
    return logged(COMPUTED, [row["system"]], "seconds of each update")


def _markdown(view: View) -> list[Part]:
    forms: dict[str, Form | str] = {
        "cost": "cost",
        "system": "system",
        "hours": lambda row: f"{float(row['hours']):.2g}",
        "processes": "processes",
        "device hours": lambda row: f"{float(row['device_hours']):.2g}",
        "paper": lambda row: f"{row['paper_hours']} ({row['paper_hardware']})" if row["paper_hours"] else "n/a",
    }
    if not any(row["paper_hours"] for row in view.rows):
        del forms["paper"]
    return [*view.head(), *table(forms, view.rows)]


TABLE = Table(
    order=120,
    title="Hours",
    columns=("cost", "system", "method", "hours", "processes", "device_hours", "paper_hours", "paper_hardware"),
    keys=("cost", "system"),
    given=("processes",),
    times=("hours", "device_hours"),
    rows=lambda study: hours_rows(trained(study), study.measured.shared, study.settings),
    paper=("paper_hours", "table3", lambda system, paper, dataset: published.hours_row(system, paper)),
    evidence=_evidence,
    markdown=_markdown,
)
