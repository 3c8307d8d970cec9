"""Renders the whole study as one HTML file that works offline: tables, figures, answers side by side, links.

Each folder of --generations is named as its system, each of --datasets as its set.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from distill.config.slices.render_report import RenderReport
from distill.files import read_jsonl, write_text
from distill.pages.page import build_page, sample_answers
from distill.provenance.stage import Job, run_stage
from distill.records import read_examples
from distill.report.csv_tables import read_tables


def _rows(path: Path) -> Iterator[dict]:
    return (row for _, row in read_jsonl(path))


def render_report(job: Job) -> None:
    """Writes the page; its links are relative to the results folder, in which it lies."""
    folders = {name: job.input(name) for name in ("tables", "figures")}
    generations = {
        folder.name: (row for _, row in read_jsonl(folder / "generations.jsonl"))
        for folder in job.inputs["generations"]
    }
    examples = {folder.name: read_examples(folder / "examples.jsonl") for folder in job.inputs["datasets"]}
    tables, figures = (os.path.relpath(folder, job.output.parent) for folder in folders.values())
    page = build_page(
        read_tables(folders["tables"]),
        {path.stem: path.read_bytes() for path in folders["figures"].glob("*.svg")},
        sample_answers(generations, examples, job.settings.prompts),
        job.settings,
        (tables, figures),
    )
    write_text(job.output, page)


if __name__ == "__main__":
    run_stage(render_report, __doc__, inputs=("tables", "figures", "generations", "datasets"), settings=RenderReport)
