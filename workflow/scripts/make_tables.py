"""Computes every number of the tables and writes them as CSV files in full precision.

Each folder of --scores, --entropies (generations), --runs and --models is named as its system; --candidates takes all
shards. Models supplied from outside have neither a run nor a selection. Records of the jobs behind samples and
candidate sets tell their hours.
"""

from pathlib import Path

from distill.config.stages.report import MakeTables
from distill.errors import DataError
from distill.files import read_json, read_jsonl
from distill.provenance.costs import SHARED, hours_of
from distill.provenance.stage import Job, run_stage
from distill.report.all_tables import Measured, table_rows
from distill.report.csv_tables import write_table
from distill.training.checkpoints import DATA_SEEN, DEV, DEV_ITEMS, METRICS
from distill.training.set_statistics import STATISTICS, summarise


def _rows(path: Path) -> list[dict]:
    return [row for _, row in read_jsonl(path)]


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
    """Writes a CSV file a table; a table without data has its header alone."""
    settings: MakeTables = job.settings
    systems, trained = list(settings.systems), [name for name, one in settings.systems.items() if one.training]
    scores = _by_name(job, "scores", systems)
    seeds, prompts = (
        {system: _rows(folder / file) for system, folder in scores.items()} for file in ("seeds.jsonl", "prompts.jsonl")
    )
    entropies = {
        system: read_json(folder / "entropy.json") for system, folder in _by_name(job, "entropies", systems).items()
    }
    shards = job.inputs["candidates"]
    sets = summarise(read_json(shard / STATISTICS) for shard in shards) if shards else None
    runs = _by_name(job, "runs", trained)
    selections = {run: read_json(folder / "selection.json") for run, folder in _by_name(job, "models", trained).items()}
    metrics, dev, items = (
        {run: _rows(folder / file) for run, folder in runs.items()} for file in (METRICS, DEV, DEV_ITEMS)
    )
    seen = {run: read_json(folder / DATA_SEEN) for run, folder in runs.items()}
    shared = {cost: hours for cost, name in SHARED.items() if (hours := hours_of(job.inputs[name])) is not None}
    win_rates = [read_json(folder / "win_rate.json") for folder in job.inputs["verdicts"]]
    measured = Measured(seeds, prompts, entropies, sets, metrics, dev, items, seen, selections, shared, win_rates)
    for name, rows in table_rows(measured, settings).items():
        write_table(job.output, name, rows)


if __name__ == "__main__":
    names = ("scores", "entropies", "candidates", "runs", "models", "verdicts", *SHARED.values())
    run_stage(make_tables, __doc__, inputs=names, settings=MakeTables)
