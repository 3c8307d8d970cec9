"""Renders the CSV tables as one Markdown page for people."""

import os

from distill.config.stages.report import RenderTables
from distill.files import write_text
from distill.provenance.stage import Job, run_stage
from distill.report.csv_tables import COLUMNS, read_table
from distill.report.render import render


def render_tables(job: Job) -> None:
    """Writes the page; its links to the CSV files are relative."""
    folder = job.input("tables")
    tables = {name: read_table(folder, name) for name in COLUMNS}
    write_text(job.output, render(tables, job.settings, os.path.relpath(folder, job.output.parent)))


if __name__ == "__main__":
    run_stage(render_tables, __doc__, inputs=("tables",), settings=RenderTables)
