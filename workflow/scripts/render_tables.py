"""Renders the CSV tables as one Markdown page for people."""

import os

from distill.config.slices.render_tables import RenderTables
from distill.files import write_text
from distill.pages.render import render
from distill.provenance.stage import Job, run_stage
from distill.report.csv_tables import read_tables


def render_tables(job: Job) -> None:
    """Writes the page; its links to the CSV files are relative."""
    folder = job.input("tables")
    tables = read_tables(folder)
    page = render(tables, job.settings, os.path.relpath(folder, job.output.parent))
    write_text(job.output, page.text)
    job.notes |= {"tables": sum(map(bool, tables.values()))}


if __name__ == "__main__":
    run_stage(render_tables, __doc__, inputs=("tables",), settings=RenderTables)
