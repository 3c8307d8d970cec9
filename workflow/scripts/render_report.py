"""Renders the whole study as one HTML file that works offline: tables, figures, answers side by side, links.

Each folder of --generations is named as its system, each of --datasets as its set, each of --verdicts as its pair.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from distill.config.slices.render_report import RenderReport
from distill.files import read_jsonl, write_text
from distill.pages.page import build_page, sample_answers, shown_verdicts
from distill.provenance.stage import Job, run_stage
from distill.records import read_examples
from distill.report.csv_tables import read_tables


def _rows(path: Path) -> Iterator[dict]:
    return (row for _, row in read_jsonl(path))


def render_report(job: Job) -> None:
    """Writes the page; its links are relative to the results folder, in which it lies."""
    folders = {name: job.input(name) for name in ("tables", "figures")}
    generations, verdicts = (
        {folder.name: _rows(folder / f"{name}.jsonl") for folder in job.inputs[name]}
        for name in ("generations", "verdicts")
    )
    examples = {folder.name: read_examples(folder / "examples.jsonl") for folder in job.inputs["datasets"]}
    tables = read_tables(folders["tables"])
    metrics = {row["dataset"]: row["metric"] for row in tables["scores"]}
    links = [os.path.relpath(folder, job.output.parent) for folder in folders.values()]
    figures = {path.stem: path.read_bytes() for path in folders["figures"].glob("*.svg")}
    page = build_page(
        tables,
        figures,
        sample_answers(generations, examples, job.settings.prompts, metrics),
        job.settings,
        (links[0], links[1]),
        shown_verdicts(verdicts, tables["win_rates"], examples, job.settings.prompts),
    )
    write_text(job.output, page)
    job.notes |= {"tables": sum(map(bool, tables.values())), "figures": len(figures)}


if __name__ == "__main__":
    run_stage(
        render_report,
        __doc__,
        inputs=("tables", "figures", "generations", "verdicts", "datasets"),
        settings=RenderReport,
    )
