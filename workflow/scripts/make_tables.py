"""Computes every number of the tables and writes them as CSV files in full precision.

Each folder of --scores, --entropies (generations), --runs and --models is named as its system; --candidates takes all
shards. Models supplied from outside have neither a run nor a selection.
"""

from pathlib import Path

from distill.config.stages.report import MakeTables
from distill.errors import DataError
from distill.files import read_json, read_jsonl
from distill.provenance.costs import shared_hours
from distill.provenance.stage import Job, run_stage
from distill.report import ablations, claims, tables
from distill.report.csv_tables import write_table
from distill.training.checkpoints import DEV, DEV_ITEMS, METRICS
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
        tables.by_cell({system: _rows(folder / file) for system, folder in scores.items()}, settings)
        for file in ("seeds.jsonl", "prompts.jsonl")
    )
    by_prompt = tables.prompt_scores(prompts)
    entropies = {
        system: read_json(folder / "entropy.json") for system, folder in _by_name(job, "entropies", systems).items()
    }
    shards = job.inputs["candidates"]
    sets = summarise(read_json(shard / STATISTICS) for shard in shards) if shards else None
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
    shared = shared_hours(list(runs.values()), job.state_root.parent)
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
