"""Every number of the tables, as rows of `csv_tables.COLUMNS`; nothing is rounded here."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from statistics import fmean

from distill.config.stages.report import MakeTables, ReportedRun
from distill.errors import DataError
from distill.evaluation.statistics import Interval, mean_std, paired_bootstrap

Rows = Sequence[Mapping]
Cell = tuple[str, str, str]
MEANS = ("mean_tokens", "finished", "distinct_1", "distinct_2", "exact_match")
LEARNT = {"objective": "loss", "linear": "linear"}
"""Quantities of learning.csv with their keys in dev_items.jsonl; a method may lack one."""


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


def _name(cell: Cell) -> dict[str, str]:
    return dict(zip(("system", "dataset", "decoding"), cell, strict=True))


def rouge_rows(cells: Mapping[Cell, Rows]) -> Iterator[dict]:
    """Yields mean and sample deviation of Rouge-L over seeds; the deviation is None where one seed was run."""
    for cell, rows in cells.items():
        spread = mean_std([row["rouge_l"] for row in rows])
        yield _name(cell) | {"mean": spread.mean, "std": spread.std, "seeds": spread.n, "prompts": rows[0]["n"]}


def rouge_seed_rows(cells: Mapping[Cell, Rows]) -> Iterator[dict]:
    """Yields every seed's Rouge-L."""
    for cell, rows in cells.items():
        for row in sorted(rows, key=lambda row: row["seed"]):
            yield _name(cell) | {"seed": row["seed"], "rouge_l": row["rouge_l"]}


def quality_rows(
    cells: Mapping[Cell, Rows], entropies: Mapping[str, Mapping[str, float]], primary: str
) -> Iterator[dict]:
    """Yields means over seeds of what goes with Rouge-L, and the entropy in nats, which the primary decoding has.

    Args:
        cells: seed rows.
        entropies: {system: {dataset: mean entropy along its own answers}}.
        primary: name of the primary decoding.
    """
    for cell, rows in cells.items():
        system, dataset, decoding = cell
        entropy = entropies.get(system, {}).get(dataset) if decoding == primary else None
        yield _name(cell) | {name: fmean(row[name] for row in rows) for name in MEANS} | {"entropy": entropy}


def _change(interval: Interval) -> dict:
    verdict = "higher" if interval.lo > 0 else "lower" if interval.hi < 0 else "undecided"
    return {
        "difference": interval.estimate,
        "lo": interval.lo,
        "hi": interval.hi,
        "prompts": interval.n,
        "verdict": verdict,
    }


def comparison_pairs(systems: Sequence[str], baselines: Sequence[str]) -> list[tuple[str, str]]:
    """Returns (system, baseline) pairs: each system with each baseline, of two baselines the later with the earlier."""
    present = [name for name in baselines if name in systems]
    return [
        (system, baseline)
        for system in systems
        for baseline in (present[: present.index(system)] if system in present else present)
    ]


def comparison_rows(cells: Mapping[Cell, Rows], settings: MakeTables) -> Iterator[dict]:
    """Yields the difference in Rouge-L of each pair, prompt by prompt, with its 95% paired bootstrap interval.

    `verdict` is higher or lower where the interval leaves out 0, else undecided.

    Args:
        cells: prompt rows.
        settings: order, baselines and the bootstrap's seed.
    """
    scores = {cell: {row["id"]: row["rouge_l"] for row in rows} for cell, rows in cells.items()}
    for system, baseline in comparison_pairs(settings.systems, settings.baselines):
        for dataset, decoding in product(settings.datasets, settings.decodings):
            first, second = scores[system, dataset, decoding], scores[baseline, dataset, decoding]
            names = {"system": system, "baseline": baseline, "dataset": dataset, "decoding": decoding}
            yield names | _change(paired_bootstrap(first, second, settings.seed))


def candidate_rows(statistics: Mapping) -> Iterator[dict]:
    """Yields the statistics of the teacher's candidate sets by p."""
    for row in statistics["sets"]:
        yield {**row, "teacher_entropy": statistics["teacher_entropy"]}


def learning_rows(run: str, items: Rows, selected: int, seed: int) -> Iterator[dict]:
    """Yields the held-out objective and its linear part at update 0, at the selected and at the last update.

    Later values come with their paired difference to update 0 and its 95% bootstrap interval over prompts; the samples
    of a prompt are averaged first, since they are not independent.

    Args:
        run: the run's name.
        items: rows {step, id, sample, loss, linear} of dev_items.jsonl.
        selected: the selected update.
        seed: of the bootstrap.

    Raises:
        DataError: an update has no rows, or two updates have rows of different prompts.
    """
    for quantity, key in ((name, key) for name, key in LEARNT.items() if key in items[0]):
        samples: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in items:
            samples[row["step"]][row["id"]].append(row[key])
        means = {step: {id_: fmean(values) for id_, values in group.items()} for step, group in samples.items()}
        for at, update in (("start", 0), ("selected", selected), ("last", max(means))):
            if update not in means:
                raise DataError(
                    f"{run}: expected held-out rows of update {update} in dev_items.jsonl, found none; rerun train_run"
                )
            change = dict.fromkeys(("difference", "lo", "hi", "verdict")) | {"prompts": len(means[update])}
            if at != "start":
                change = _change(paired_bootstrap(means[update], means[0], seed))
            mean = fmean(means[update].values())
            yield {"run": run, "quantity": quantity, "at": at, "update": update, "mean": mean} | change


def win_rate_rows(win_rates: Iterable[Mapping], systems: Sequence[str]) -> list[dict]:
    """Returns the win rates (win_rate.json of judge_pair) in the order of the systems."""
    return sorted(
        ({**row, "prompts": row["n"]} for row in win_rates),
        key=lambda row: (systems.index(row["system"]), systems.index(row["opponent"])),
    )


def selection_rows(selections: Mapping[str, Mapping]) -> Iterator[dict]:
    """Yields each run's candidates with their dev scores (selection.json of select_checkpoint)."""
    for run, selection in selections.items():
        for update, scores in sorted((int(update), scores) for update, scores in selection["scores"].items()):
            yield {
                "run": run,
                "rule": selection["rule"],
                "update": update,
                "chosen": "yes" if update == selection["update"] else "no",
                "dev_loss": scores["dev_loss"],
                "dev_rouge": scores.get("dev_rouge"),
            }


def training_row(run: str, reported: ReportedRun, metrics: Rows, dev: Rows, selected: int) -> dict:
    """Returns what a run took: seconds are those inside updates, without evaluation and saving.

    Args:
        run: the run's name.
        reported: its method and batch.
        metrics: a row an update (metrics.jsonl).
        dev: a row a checkpoint (dev.jsonl).
        selected: the selected update.
    """
    tokens, seconds = (sum(row[name] for row in metrics) for name in ("tokens", "seconds"))
    return {
        "run": run,
        "method": reported.method,
        "updates": len(metrics),
        "sequences": len(metrics) * reported.batch,
        "tokens": tokens,
        "mean_gradient_norm": fmean(row["gradient_norm"] for row in metrics),
        "final_dev_loss": dev[-1]["loss"],
        "selected_update": selected,
        "tokens_per_second": tokens / seconds,
        "seconds_to_selected": sum(row["seconds"] for row in metrics if row["step"] <= selected),
        "seconds": seconds,
    }
