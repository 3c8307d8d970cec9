"""The numbers behind the tables once more, from answers, verdicts, logs and records; no table is read."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from distill.audit.archive import Archive, Artifact
from distill.config.stages.report import MakeTables
from distill.errors import DataError
from distill.evaluation.dev_scores import score_checkpoints
from distill.evaluation.scoring import score_generations
from distill.evaluation.selection import select
from distill.evaluation.win_rate import win_rate
from distill.files import read_json, read_jsonl
from distill.provenance.costs import SHARED, hours_of
from distill.report.all_tables import Measured
from distill.report.recipes import Cell
from distill.training.checkpoints import DATA_SEEN, DEV, DEV_ITEMS, METRICS, SELECTION, read_candidates
from distill.training.set_statistics import STATISTICS, summarise


@contextmanager
def as_written(results: Path) -> Iterator[None]:
    """Turns what damaged files do to a computation into one line.

    Raises:
        DataError: a row or a record is not as the stages write it.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{results}: expected rows and records as the stages write them, found {type(error).__name__}: {error}; "
            "run verify to see what is changed"
        ) from error


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a JSONL file."""
    return [row for _, row in read_jsonl(path)]


def tables_artifact(archive: Archive) -> Artifact:
    """Returns the tables.

    Raises:
        DataError: there are none.
    """
    if "tables" not in archive.artifacts:
        raise DataError(f"{archive.results / 'tables'}: expected tables with a record, found none; run make_tables")
    return archive.artifacts["tables"]


def tables_settings(archive: Archive) -> MakeTables:
    """Returns what the tables were asked to hold."""
    return MakeTables.model_validate(tables_artifact(archive).settings)


def inputs_by_name(archive: Archive, artifact: Artifact, name: str) -> dict[str, Artifact]:
    """Returns the artifacts that went into one under a name, by the names of their folders."""
    return {
        entry.artifact.path.name: entry.artifact
        for entry in archive.inputs(artifact)
        if entry.name == name and entry.artifact
    }


def input_of(archive: Archive, artifact: Artifact, name: str) -> Artifact:
    """Returns the one artifact that went into another under a name.

    Raises:
        DataError: there is none, or its record is gone.
    """
    found = [*inputs_by_name(archive, artifact, name).values()]
    if len(found) != 1:
        raise DataError(
            f"{archive.results / artifact.record}: expected one recorded artifact as input {name}, found {len(found)}; "
            "run verify to see what is missing"
        )
    return found[0]


def measure_again(
    archive: Archive, cells: Collection[Cell] | None = None, runs: Collection[str] | None = None
) -> Measured:
    """Returns what the tables are computed from, computed again from the files behind it.

    Rouge-L and its company come from the answers and the references, a run's selection from its losses and dev answers,
    win rates from the verdicts, hours from the records. What a model or a clock measured is read where the stage wrote
    it: losses, times, entropies, data seen, and the statistics of the candidate sets.

    Args:
        archive: the results.
        cells: (system, dataset, decoding) whose answers are scored again, other scores being read; None for all.
        runs: whose selection is made again, others being read; None for all.

    Raises:
        DataError: a file is missing or malformed.
    """
    artifact = tables_artifact(archive)

    def named(name: str) -> dict[str, Artifact]:
        return inputs_by_name(archive, artifact, name)

    shards = [shard for _, shard in sorted(named("candidates").items(), key=lambda item: int(item[0]))]
    folders, score = named("scores"), partial(_score, archive, cells=cells)
    if cells is None and len(folders) > 1:
        with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            scores = dict(zip(folders, pool.map(score, folders.values()), strict=True))
    else:
        scores = {system: score(folder) for system, folder in folders.items()}
    models = {run: folder for run, folder in named("models").items() if folder.rule == "select_checkpoint"}
    logs = {
        file: {run: rows_of(folder.path / file) for run, folder in named("runs").items()}
        for file in (METRICS, DEV, DEV_ITEMS)
    }
    records = {
        cost: [archive.results / entry.uri for entry in archive.inputs(artifact) if entry.name == name]
        for cost, name in SHARED.items()
    }
    return Measured(
        seeds={system: found["seeds.jsonl"] for system, found in scores.items()},
        prompts={system: found["prompts.jsonl"] for system, found in scores.items()},
        entropies={name: read_json(folder.path / "entropy.json") for name, folder in named("entropies").items()},
        sets=summarise(read_json(shard.path / STATISTICS) for shard in shards) if shards else None,
        metrics=logs[METRICS],
        dev=logs[DEV],
        dev_items=logs[DEV_ITEMS],
        data_seen={run: read_json(folder.path / DATA_SEEN) for run, folder in named("runs").items()},
        selections={
            run: select_again(archive, folder) if runs is None or run in runs else read_json(folder.path / SELECTION)
            for run, folder in models.items()
        },
        shared={cost: hours for cost, found in records.items() if (hours := hours_of(found)) is not None},
        win_rates=[_win_rate(folder) for folder in named("verdicts").values()],
    )


def _score(archive: Archive, scores: Artifact, cells: Collection[Cell] | None) -> dict[str, list[dict]]:
    """Returns the rows of seeds.jsonl and prompts.jsonl, those of the wanted cells scored again."""
    system = scores.path.name
    wanted = None if cells is None else {cell[1:] for cell in cells if cell[0] == system}

    def chosen(rows: Iterable[Mapping], is_wanted: bool) -> list[Mapping]:
        if wanted is None:
            return [*rows] if is_wanted else []
        return [row for row in rows if ((row["dataset"], row["decoding"]) in wanted) is is_wanted]

    fresh: dict[str, list[dict]] = {"seeds.jsonl": [], "prompts.jsonl": []}
    if wanted is None or wanted:
        path = input_of(archive, scores, "generations").path / "generations.jsonl"
        datasets = inputs_by_name(archive, scores, "datasets")
        asked = datasets if wanted is None else {dataset for dataset, _ in wanted}
        examples = {name: rows_of(datasets[name].path / "examples.jsonl") for name in datasets if name in asked}
        again = score_generations(chosen((row for _, row in read_jsonl(path)), True), examples, str(path))
        fresh = {"seeds.jsonl": again.seeds, "prompts.jsonl": again.prompts}
    kept = {file: [] if wanted is None else chosen(rows_of(scores.path / file), False) for file in fresh}
    return {file: [*rows, *kept[file]] for file, rows in fresh.items()}


def select_again(archive: Archive, model: Artifact) -> dict[str, Any]:
    """Returns selection.json of a run's model, chosen again from its losses and its candidates' dev answers."""
    run = input_of(archive, model, "run").path
    losses = {row["step"]: row["loss"] for row in rows_of(run / DEV)}
    start = next((folder.path for folder in inputs_by_name(archive, model, "start").values()), None)
    scores = {update: {"dev_loss": losses[update]} for update in read_candidates(run, start)}
    validation = inputs_by_name(archive, model, "validation")
    for folder in validation.values():
        for update, value in score_checkpoints(folder.path, input_of(archive, model, "dev").path).items():
            scores[update]["dev_rouge"] = value
    chosen = select(model.settings["rule"], scores)
    return {
        "run": model.settings["name"],
        "split": "dev",
        "rule": model.settings["rule"],
        "update": chosen,
        "keeps_start": chosen == 0,
        "scores": {str(update): own for update, own in scores.items()},
    }


def _win_rate(verdicts: Artifact) -> dict[str, Any]:
    """Returns win_rate.json, its rates counted again; what was spent is read, since lost replies left no verdict."""
    rows, judge = rows_of(verdicts.path / "verdicts.jsonl"), verdicts.settings["judge"]
    return {
        **asdict(win_rate(rows, *verdicts.settings["pair"], place=str(verdicts.path / "verdicts.jsonl"))),
        "judge": ", ".join(sorted({row["model"] for row in rows})),
        **{name: judge[name] for name in ("dataset", "decoding", "seed")},
        "spent_usd": read_json(verdicts.path / "win_rate.json")["spent_usd"],
    }
