"""The numbers behind the tables once more, from answers, verdicts, logs and records; no table is read."""

import csv
import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import filterfalse
from pathlib import Path
from typing import Any

from distill.audit.archive import Archive, Artifact
from distill.checkpoints import DEV, SELECTION, read_candidates
from distill.config.slices.judge_pair import JudgePair
from distill.config.slices.make_tables import MakeTables
from distill.config.slices.score_responses import ScoreResponses
from distill.config.slices.select_checkpoint import SelectCheckpoint
from distill.errors import DataError
from distill.evaluation.dev_scores import score_checkpoints
from distill.evaluation.scoring import score_generations
from distill.evaluation.selection import selecting_metric, selection
from distill.evaluation.win_rate import win_rate_of
from distill.files import read_json, read_jsonl
from distill.provenance.costs import SHARED, hours_of
from distill.report.measured import INPUTS, Measured, Rows, measure, read_scores, rows_of
from distill.report.recipes import Cell


@contextmanager
def as_written(results: Path | str) -> Iterator[None]:
    """Turns what damaged files do to a computation into one line.

    Raises:
        DataError: a row or a record is not as the stages write it.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, csv.Error) as error:
        raise DataError(
            f"{results}: expected rows and records as the stages write them, found {type(error).__name__}: {error}; "
            "run verify to see what is changed"
        ) from error


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

    Scores come from the answers and the references, a run's selection from its losses and dev answers,
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
    inputs = {name: inputs_by_name(archive, artifact, name) for name in INPUTS}
    inputs["candidates"] = dict(sorted(inputs["candidates"].items(), key=lambda item: int(item[0])))
    inputs["models"] = {run: one for run, one in inputs["models"].items() if one.rule == "select_checkpoint"}
    owners = {one.path: one for found in inputs.values() for one in found.values()}
    score = partial(_score, archive, cells=cells)
    if cells is None and len(inputs["scores"]) > 1:
        with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            scores = dict(zip(inputs["scores"], pool.map(score, inputs["scores"].values()), strict=True))
    else:
        scores = {system: score(one) for system, one in inputs["scores"].items()}
    records = {
        cost: [archive.results / entry.uri for entry in archive.inputs(artifact) if entry.name == name]
        for cost, name in SHARED.items()
    }
    return measure(
        {name: {key: one.path for key, one in found.items()} for name, found in inputs.items()},
        {cost: hours for cost, found in records.items() if (hours := hours_of(found)) is not None},
        scores=lambda folder: scores[folder.name],
        selection=lambda folder: (
            select_again(archive, owners[folder])
            if runs is None or folder.name in runs
            else read_json(folder / SELECTION)
        ),
        win_rate=lambda folder: _win_rate(owners[folder]),
    )


def _score(archive: Archive, scores: Artifact, cells: Collection[Cell] | None) -> tuple[Rows, Rows]:
    """Returns the rows of seeds.jsonl and prompts.jsonl, those of the wanted cells scored again."""
    wanted = None if cells is None else {cell[1:] for cell in cells if cell[0] == scores.path.name}
    if wanted is not None and not wanted:
        return read_scores(scores.path)

    def is_wanted(row: Mapping) -> bool:
        return wanted is None or (row["dataset"], row["decoding"]) in wanted

    path = input_of(archive, scores, "generations").path / "generations.jsonl"
    datasets = inputs_by_name(archive, scores, "datasets")
    asked = datasets if wanted is None else {dataset for dataset, _ in wanted}
    examples = {name: rows_of(datasets[name].path / "examples.jsonl") for name in datasets if name in asked}
    metrics = ScoreResponses.model_validate(scores.settings).metrics
    again = score_generations(filter(is_wanted, (row for _, row in read_jsonl(path))), examples, metrics, str(path))
    seeds, prompts = ([], []) if wanted is None else read_scores(scores.path)
    return [*again.seeds, *filterfalse(is_wanted, seeds)], [*again.prompts, *filterfalse(is_wanted, prompts)]


def select_again(archive: Archive, model: Artifact) -> dict[str, Any]:
    """Returns selection.json of a run's model, chosen again from its losses and its candidates' dev answers."""
    run = input_of(archive, model, "run").path
    start = next((folder.path for folder in inputs_by_name(archive, model, "start").values()), None)
    settings = SelectCheckpoint.model_validate(model.settings)
    metric, answers = selecting_metric(settings.rule), None
    if metric:
        validation, dev = (input_of(archive, model, name).path for name in ("validation", "dev"))
        answers = score_checkpoints(validation, dev, metric)
    return selection(settings, rows_of(run / DEV), read_candidates(run, start), answers)


def _win_rate(verdicts: Artifact) -> dict[str, Any]:
    """Returns win_rate.json, its rates counted again; what was spent is read, since lost replies left no verdict."""
    path, spent = verdicts.path / "verdicts.jsonl", read_json(verdicts.path / "win_rate.json")["spent_usd"]
    return win_rate_of(JudgePair.model_validate(verdicts.settings), rows_of(path), spent, str(path))
