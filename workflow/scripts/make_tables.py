"""Computes every number of the tables and writes them as CSV files in full precision and, rounded, for LaTeX.

Each folder of --scores, --entropies (generations), --runs, --models and --rankings is named as its system;
--candidates takes all shards, --efficiency its one folder. Models supplied from outside have neither a run nor a
selection. Records of the jobs behind samples and candidate sets tell their hours.
"""

from pathlib import Path

from distill.config.slices.make_tables import MakeTables
from distill.errors import DataError
from distill.provenance.costs import SHARED, hours_of
from distill.provenance.stage import Job, run_stage
from distill.report.csv_tables import write_table
from distill.report.latex import write_latex
from distill.report.measured import INPUTS, measure
from distill.report.tables import table_rows


def _by_name(job: Job, name: str, expected: list[str]) -> dict[str, Path]:
    """Returns the folders of an input by their names, in the expected order."""
    folders = {folder.name: folder for folder in job.inputs[name]}
    missing = [system for system in expected if system not in folders]
    if missing:
        raise DataError(
            f"--{name}: expected a folder of {missing[0]}, found {', '.join(folders) or 'none'}; "
            "run the rule that makes it"
        )
    return {system: folders[system] for system in expected}


def make_tables(job: Job) -> None:
    """Writes a CSV file a table, which without data has its header alone, and a LaTeX file where there are data."""
    settings: MakeTables = job.settings
    trained = [name for name, system in settings.systems.items() if system.training]
    names = {"scores": settings.systems, "entropies": settings.systems, "runs": trained, "models": trained}
    names |= {"rankings": settings.systems} if job.inputs["rankings"] else {}
    folders = {
        name: _by_name(job, name, [*names[name]])
        if name in names
        else {folder.name: folder for folder in job.inputs[name]}
        for name in INPUTS
    }
    shared = {cost: hours for cost, name in SHARED.items() if (hours := hours_of(job.inputs[name])) is not None}
    filled = 0
    for name, made in table_rows(measure(folders, shared), settings).items():
        rows = [*made]
        write_table(job.output, name, rows)
        write_latex(job.output, name, rows, settings.labels)
        filled += bool(rows)
    job.notes |= {"tables": filled}


if __name__ == "__main__":
    run_stage(make_tables, __doc__, inputs=(*INPUTS, *SHARED.values()), settings=MakeTables)
