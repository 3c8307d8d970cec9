"""Draws every figure of the study, each as PNG and SVG.

Each folder of --scores and --runs is named as its system. Models supplied from outside have no run.
"""

from collections import defaultdict

from distill.config.stages.report import DrawFigures
from distill.evaluation.statistics import bootstrap
from distill.files import read_jsonl
from distill.provenance.stage import Job, run_stage
from distill.report.csv_tables import COLUMNS, read_table
from distill.report.figures import write_figures
from distill.training.checkpoints import DEV, METRICS


def draw_figures(job: Job) -> None:
    """Writes the figures; one without data is left out."""
    settings: DrawFigures = job.settings
    scores = {}
    for folder in job.inputs["scores"]:
        cells = defaultdict(list)
        for _, row in read_jsonl(folder / "prompts.jsonl"):
            cells[row["dataset"], row["decoding"]].append(row["rouge_l"])
        scores |= {(folder.name, *cell): bootstrap(values, settings.seed) for cell, values in cells.items()}
    metrics, dev = (
        {folder.name: [row for _, row in read_jsonl(folder / file)] for folder in job.inputs["runs"]}
        for file in (METRICS, DEV)
    )
    names = ("sorted_mass", "win_rates", "selection")
    tables = {name: read_table(job.input("tables"), name) if name in COLUMNS else [] for name in names}
    write_figures(job.output, tables, scores, metrics, dev, settings.recipes)


if __name__ == "__main__":
    run_stage(draw_figures, __doc__, inputs=("tables", "scores", "runs"), settings=DrawFigures)
