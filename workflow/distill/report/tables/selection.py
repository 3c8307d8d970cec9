"""Checkpoints are chosen on dev data alone, never on a test set. The start of a run that starts from phase 1 or another
run is a candidate, too, as update 0 (but for the rule `last`); the earliest wins a tie. A run that keeps its start has
the weights and the scores of that model. All candidates with their dev scores are in the CSV.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from distill.checkpoints import DEV, SELECTION
from distill.config.slices.make_tables import MakeTables
from distill.evaluation.selection import selecting_metric
from distill.report.evidence import COMPUTED, MEASURED, SCORED, Evidence, Source, dev_answers
from distill.report.markdown import Forms, Part, number, table
from distill.report.table import Table, View


def selection_rows(selections: Mapping[str, Mapping]) -> Iterator[dict]:
    """Yields each run's candidates with their dev scores (selection.json of select_checkpoint)."""
    for run, selection in selections.items():
        metric = selecting_metric(selection["rule"])
        for update, scores in sorted((int(update), scores) for update, scores in selection["scores"].items()):
            yield {
                "run": run,
                "rule": selection["rule"],
                "update": update,
                "chosen": "yes" if update == selection["update"] else "no",
                "dev_loss": scores["dev_loss"],
                "metric": metric,
                "dev_score": scores[selection["rule"]] if metric else None,
            }


def _evidence(row: Mapping[str, str], column: str, settings: MakeTables) -> Evidence:
    run, update = row["run"], int(row["update"])
    if column == "dev_score":
        return Evidence(SCORED, dev_answers(run, update), runs=[run])
    if column == "dev_loss":
        found = Source("runs", run, DEV, f"dev loss of update {update}", {"step": update})
        return Evidence(MEASURED, [found], runs=[run])
    return Evidence(COMPUTED, [Source("models", run, SELECTION, "the checkpoints")], runs=[run])


def _markdown(view: View) -> list[Part]:
    candidates = Counter(row["run"] for row in view.rows)
    forms: Forms = {
        "run": "run",
        "rule": "rule",
        "candidates": lambda row: str(candidates[row["run"]]),
        "chosen update": lambda row: f"{row['update']} (the start)" if row["update"] == "0" else row["update"],
        "dev loss": number("dev_loss", 3),
        f"dev {view.words['score']}": number("dev_score"),
    }
    rows = [row for row in view.rows if row["chosen"] == "yes"]
    return [*view.head("Selected checkpoints"), *table(forms, rows)]


TABLE = Table(
    order=170,
    title="Checkpoints",
    columns=("run", "rule", "update", "chosen", "dev_loss", "metric", "dev_score"),
    keys=("run", "update"),
    rows=lambda study: selection_rows(study.measured.selections),
    evidence=_evidence,
    markdown=_markdown,
)
