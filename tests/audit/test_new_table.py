"""A table joins the study with one file: as a CSV file, in tables.md, and for the audit."""

import os
import re
import subprocess
import sys

TABLE = '''"""Length of the answers in tokens, mean over sampling seeds."""

from statistics import fmean

from distill.report.evidence import of_row
from distill.report.measured import named
from distill.report.table import Table

TABLE = Table(
    order=85,
    title="Lengths",
    columns=("system", "dataset", "decoding", "tokens"),
    keys=("system", "dataset", "decoding"),
    rows=lambda study: (
        named(cell) | {"tokens": fmean(row["mean_tokens"] for row in rows)} for cell, rows in study.cells.items()
    ),
    evidence=of_row,
)
'''


def test_a_table_is_one_file(workplace):
    (workplace.folder / "workflow/distill/report/tables/lengths.py").write_text(TABLE)
    workplace.run("results/tables.md")
    first = (workplace.results / "tables/lengths.csv").read_text().splitlines()[:2]
    assert first[0] == "system,dataset,decoding,tokens" and first[1].startswith("teacher,dolly,top_p_1.0,")

    page = (workplace.results / "tables.md").read_text().splitlines()
    start = page.index("## Lengths")
    assert page.index("## Quality of the answers, top_p_1.0") < start < page.index("## Hours")
    assert page[start + 2] == "Length of the answers in tokens, mean over sampling seeds."
    assert "Full precision: [lengths.csv](tables/lengths.csv)" in page
    line = next(i for i in range(start, len(page)) if page[i].startswith("| sft ")) + 1

    command = [sys.executable, "-m", "distill", "trace", f"tables.md:{line}:tokens"]
    environment = os.environ | {"PYTHONPATH": "workflow"}
    done = subprocess.run(command, cwd=workplace.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.match(r"tables/lengths.csv:\d+:tokens  system=sft, dataset=dolly, decoding=top_p_1.0\n", done.stdout)
    assert ": equal (scored again from the answers)" in done.stdout
    assert "  scores/sft/seeds.jsonl:" in done.stdout and "data/sources/instructions/examples.jsonl" in done.stdout
