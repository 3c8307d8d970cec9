"""Computes every number of the tables and writes them as CSV files in full precision.

Each folder of --scores, --entropies (generations), --runs and --models is named as its system. Models supplied from
outside have neither a run nor a selection.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from distill.config.stages.report import MakeTables
from distill.errors import DataError
from distill.files import read_json, read_jsonl
from distill.provenance.record import record_path
from distill.provenance.stage import Job, run_stage
from distill.report import ablations, claims, tables
from distill.report.csv_tables import write_table
from distill.training.checkpoints import DEV, DEV_ITEMS, METRICS


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


def _record(artifact: Path) -> dict | None:
    path = record_path(artifact)
    return read_json(path)["predicate"] if path.is_file() else None


def _inputs(artifact: Path, name: str, results: Path) -> Iterator[Path]:
    """Yields the artifacts that went into one under this name, as its record has them."""
    record = _record(artifact)
    for entry in record["buildDefinition"]["resolvedDependencies"] if record else ():
        uri = Path(entry["uri"])
        root = results if uri.is_relative_to(results) else Path(results.name)
        if entry["name"] == name and uri.is_relative_to(root):
            yield results / uri.relative_to(root)


def _hours(jobs: set[Path]) -> float | None:
    """Returns the time of finished jobs together; None where no record tells it. Of a resumed job a record knows the
    last try.
    """
    records = [record["runDetails"]["metadata"] for artifact in sorted(jobs) if (record := _record(artifact))]
    times = [[datetime.fromisoformat(record[key]) for key in ("startedOn", "finishedOn")] for record in records]
    return sum((end - start).total_seconds() for start, end in times) / 3600 if times else None


def _shared_hours(runs: list[Path], results: Path) -> dict[str, float]:
    """Returns the hours that went once into what several runs learn from, where records tell them."""
    samples, candidates = (
        {folder for run in runs for folder in _inputs(run, name, results)} for name in ("samples", "candidates")
    )
    shards = {shard for folder in samples for shard in _inputs(folder, "shards", results)}
    hours = {"teacher samples": _hours(shards), "candidate sets": _hours(candidates)}
    return {cost: value for cost, value in hours.items() if value is not None}


def make_tables(job: Job) -> None:
    """Writes a CSV file a table; a table without data has its header alone."""
    settings: MakeTables = job.settings
    systems, trained = list(settings.systems), [name for name, one in settings.systems.items() if one.training]
    scores = _by_name(job, "scores", systems)
    seeds, prompts = (
        tables.by_cell({system: _rows(folder / file) for system, folder in scores.items()}, settings)
        for file in ("seeds.jsonl", "prompts.jsonl")
    )
    by_prompt = tables.prompt_scores(prompts)
    entropies = {
        system: read_json(folder / "entropy.json") for system, folder in _by_name(job, "entropies", systems).items()
    }
    candidates = job.optional_input("candidates")
    sets = read_json(candidates / "statistics.json") if candidates else None
    runs = _by_name(job, "runs", trained)
    selections = {run: read_json(folder / "selection.json") for run, folder in _by_name(job, "models", trained).items()}
    training, learning, dev_rouge = [], [], {}
    for run, folder in runs.items():
        selected = selections[run]["update"]
        items = _rows(folder / DEV_ITEMS)
        learning += tables.learning_rows(run, items, selected, settings.seed) if items else []
        metrics, dev = _rows(folder / METRICS), _rows(folder / DEV)
        training.append(tables.training_row(run, settings.systems[run], metrics, dev, selected))
        dev_rouge[run] = selections[run]["scores"][str(selected)].get("dev_rouge")
    shared = _shared_hours(list(runs.values()), job.state_root.parent)
    evidence = claims.Evidence(
        settings,
        by_prompt,
        {row["run"]: row["seconds_to_selected"] for row in training},
        3600 * sum(shared.values()) if len(shared) == 2 else None,
        sets.get("sorted_mass", []) if sets else [],
    )
    win_rates = [read_json(folder / "win_rate.json") for folder in job.inputs["verdicts"]]
    for name, rows in {
        "rouge": tables.rouge_rows(seeds, settings),
        "rouge_seeds": tables.rouge_seed_rows(seeds),
        "training_seeds": tables.training_seed_rows(seeds, settings),
        "claims": claims.claim_rows(evidence),
        "comparisons": tables.comparison_rows(by_prompt, settings),
        "quality": tables.quality_rows(seeds, entropies, next(iter(settings.decodings))),
        "p_study": ablations.p_rows(seeds, settings),
        "chi_square": ablations.chi_square_rows(seeds, settings),
        "ablations": ablations.ablation_rows(seeds, by_prompt, entropies, dev_rouge, settings),
        "hours": tables.hours_rows(training, shared, settings),
        "candidate_sets": tables.candidate_rows(sets) if sets else [],
        "sorted_mass": tables.sorted_mass_rows(sets) if sets else [],
        "learning": learning,
        "win_rates": tables.win_rate_rows(win_rates, systems),
        "selection": tables.selection_rows(selections),
        "training": training,
    }.items():
        write_table(job.output, name, rows)


if __name__ == "__main__":
    names = ("scores", "entropies", "candidates", "runs", "models", "verdicts")
    run_stage(make_tables, __doc__, inputs=names, settings=MakeTables)
