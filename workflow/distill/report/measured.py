"""What a study measured, as its stages wrote it; every table is computed from it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from distill.candidates.statistics import STATISTICS, summarise
from distill.checkpoints import DATA_SEEN, DEV, DEV_ITEMS, METRICS, SELECTION
from distill.config.generation import primary_decoding
from distill.config.slices.make_tables import MakeTables
from distill.errors import DataError
from distill.evaluation.efficiency import MEASURED
from distill.evaluation.statistics import mean_std
from distill.files import read_json, read_jsonl
from distill.report.recipes import Cell, Scores

Rows = Sequence[Mapping]
INPUTS = ("scores", "entropies", "candidates", "runs", "models", "verdicts", "rankings", "efficiency")
"""Inputs of make_tables that are folders."""


@dataclass(frozen=True)
class Measured:
    """What the tables are computed from; the runs are the systems that the study trained itself.

    Attributes:
        seeds: rows of seeds.jsonl by system.
        prompts: rows of prompts.jsonl by system.
        entropies: entropy.json by system.
        sets: statistics of the candidate sets; None where there are none.
        metrics: rows of metrics.jsonl by run.
        dev: rows of dev.jsonl by run.
        dev_items: rows of dev_items.jsonl by run, empty for methods that write none.
        data_seen: data_seen.json by run.
        selections: selection.json by run.
        shared: hours that were spent once for all runs, by what they were spent on.
        win_rates: win_rate.json of every judged pair.
        rankings: rows of rankings.jsonl by system; empty where there are no preference pairs.
        efficiency: rows of measured.jsonl, a system each; empty where it was not measured.
    """

    seeds: Mapping[str, Rows]
    prompts: Mapping[str, Rows]
    entropies: Mapping[str, Mapping[str, float]]
    sets: Mapping | None
    metrics: Mapping[str, Rows]
    dev: Mapping[str, Rows]
    dev_items: Mapping[str, Rows]
    data_seen: Mapping[str, Mapping]
    selections: Mapping[str, Mapping]
    shared: Mapping[str, float]
    win_rates: Sequence[Mapping]
    rankings: Mapping[str, Rows]
    efficiency: Rows


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a JSONL file."""
    return [row for _, row in read_jsonl(path)]


def read_scores(folder: Path) -> tuple[Rows, Rows]:
    """Returns a system's rows by seed and by prompt, as score_responses wrote them."""
    return rows_of(folder / "seeds.jsonl"), rows_of(folder / "prompts.jsonl")


def measure(
    folders: Mapping[str, Mapping[str, Path]],
    shared: Mapping[str, float],
    scores: Callable[[Path], tuple[Rows, Rows]] = read_scores,
    selection: Callable[[Path], Mapping] = lambda folder: read_json(folder / SELECTION),
    win_rate: Callable[[Path], Mapping] = lambda folder: read_json(folder / "win_rate.json"),
) -> Measured:
    """Returns what the folders of a study hold.

    Args:
        folders: by input (INPUTS) and by name, in the tables' order; models are of the systems that the study trained.
        shared: hours that were spent once for all runs.
        scores, selection, win_rate: what a folder of scores, of a model or of verdicts tells; read by default.

    Raises:
        DataError: a file is missing or malformed.
    """
    runs, shards = folders["runs"], folders["candidates"].values()
    both = {system: scores(folder) for system, folder in folders["scores"].items()}
    metrics, dev, items = (
        {run: rows_of(folder / file) for run, folder in runs.items()} for file in (METRICS, DEV, DEV_ITEMS)
    )
    return Measured(
        seeds={system: seeds for system, (seeds, _) in both.items()},
        prompts={system: prompts for system, (_, prompts) in both.items()},
        entropies={system: read_json(folder / "entropy.json") for system, folder in folders["entropies"].items()},
        sets=summarise(read_json(shard / STATISTICS) for shard in shards) if shards else None,
        metrics=metrics,
        dev=dev,
        dev_items=items,
        data_seen={run: read_json(folder / DATA_SEEN) for run, folder in runs.items()},
        selections={run: selection(folder) for run, folder in folders["models"].items()},
        shared=shared,
        win_rates=[win_rate(folder) for folder in folders["verdicts"].values()],
        rankings={system: rows_of(folder / "rankings.jsonl") for system, folder in folders["rankings"].items()},
        efficiency=[row for folder in folders["efficiency"].values() for row in rows_of(folder / MEASURED)],
    )


@dataclass(frozen=True)
class Study:
    """What was measured, with the settings of the tables, and what several tables take from it."""

    measured: Measured
    settings: MakeTables

    @property
    def primary(self) -> str:
        """The name of the primary decoding."""
        return primary_decoding(self.settings.decodings)

    @cached_property
    def cells(self) -> dict[Cell, list[Mapping]]:
        """Seed rows by cell."""
        return by_cell(self.measured.seeds, self.settings)

    @cached_property
    def scores(self) -> Scores:
        """Score by prompt of every cell."""
        return prompt_scores(by_cell(self.measured.prompts, self.settings))

    @cached_property
    def selected(self) -> dict[str, int]:
        """The selected update by run."""
        return {run: selection["update"] for run, selection in self.measured.selections.items()}


def by_cell(scores: Mapping[str, Rows], settings: MakeTables) -> dict[Cell, list[Mapping]]:
    """Returns the rows of each (system, dataset, decoding), in the tables' order.

    Args:
        scores: rows with dataset and decoding (seeds.jsonl or prompts.jsonl) by system.
        settings: names and order of the systems, datasets and decodings.

    Raises:
        DataError: a system has no rows of a cell.
    """
    cells: dict[Cell, list[Mapping]] = {
        cell: [] for cell in product(settings.systems, settings.datasets, settings.decodings)
    }
    for system, rows in scores.items():
        for row in rows:
            cell = (system, row["dataset"], row["decoding"])
            if cell in cells:
                cells[cell].append(row)
    for (system, dataset, decoding), rows in cells.items():
        if not rows:
            raise DataError(
                f"tables: expected scores of {system} on {dataset} ({decoding}), found none; rerun generate_responses "
                f"and score_responses for {system}"
            )
    return cells


def prompt_scores(cells: Mapping[Cell, Rows]) -> dict[Cell, dict[str, float]]:
    """Returns the score by prompt from prompt rows."""
    return {cell: {row["id"]: row["score"] for row in rows} for cell, rows in cells.items()}


def named(cell: Iterable[str]) -> dict[str, str]:
    """Returns a cell's system, dataset and decoding as columns."""
    return dict(zip(("system", "dataset", "decoding"), cell, strict=True))


def spread(rows: Rows) -> dict:
    """Returns mean and sample deviation of the score over sampling seeds; the deviation is None where one was run."""
    over_seeds = mean_std([row["score"] for row in rows])
    return {"mean": over_seeds.mean, "std": over_seeds.std, "seeds": over_seeds.n, "prompts": rows[0]["n"]}
