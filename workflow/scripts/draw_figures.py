"""Draws every figure of the study, each as PNG, SVG and PDF.

Each folder of --scores and --runs is named as its system. Models supplied from outside have no run.
"""

from collections import defaultdict
from itertools import product

from distill.checkpoints import DEV, METRICS
from distill.config.slices.draw_figures import DrawFigures
from distill.evaluation.statistics import bootstrap
from distill.files import read_jsonl
from distill.metrics.registry import load_metric
from distill.pages.figures import write_figures
from distill.provenance.stage import Job, run_stage
from distill.report.csv_tables import read_table


def draw_figures(job: Job) -> None:
    """Writes the figures; one without data is left out."""
    settings: DrawFigures = job.settings
    values, titles = defaultdict(list), {}
    for folder in job.inputs["scores"]:
        for _, row in read_jsonl(folder / "prompts.jsonl"):
            values[folder.name, row["dataset"], row["decoding"]].append(row["score"])
            titles[row["dataset"]] = load_metric(row["metric"]).title
    cells = product(settings.recipes, settings.datasets, settings.decodings)
    scores = {cell: bootstrap(values[cell], settings.seed) for cell in cells}
    metrics, dev = (
        {folder.name: [row for _, row in read_jsonl(folder / file)] for folder in job.inputs["runs"]}
        for file in (METRICS, DEV)
    )
    tables = {name: read_table(job.input("tables"), name) for name in ("sorted_mass", "win_rates", "selection")}
    write_figures(job.output, tables, scores, titles, metrics, dev, settings.recipes, settings.labels, settings.width)
    job.notes |= {"figures": len([*job.output.glob("*.svg")])}


if __name__ == "__main__":
    run_stage(draw_figures, __doc__, inputs=("tables", "scores", "runs"), settings=DrawFigures)
