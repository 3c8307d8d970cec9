"""Every number of the tables, as rows of `csv_tables.COLUMNS`; nothing is rounded here."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from statistics import fmean

from distill.config.stages.report import MakeTables, ReportedSystem
from distill.errors import DataError
from distill.evaluation.statistics import Interval, holm, mean_std, paired_bootstrap
from distill.report import published
from distill.report.recipes import Cell, Scores, all_pairs, comparison_families, pooled, recipes

Rows = Sequence[Mapping]
MEANS = ("mean_tokens", "finished", "distinct_1", "distinct_2", "exact_match")
LEARNT = {"objective": "loss"} | {name: name for name in ("linear", "student_outside", "teacher_outside")}
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


def spread(rows: Rows) -> dict:
    """Returns mean and sample deviation of Rouge-L over sampling seeds; the deviation is None where one was run."""
    over_seeds = mean_std([row["rouge_l"] for row in rows])
    return {"mean": over_seeds.mean, "std": over_seeds.std, "seeds": over_seeds.n, "prompts": rows[0]["n"]}


def _paper_cells(system: ReportedSystem, settings: MakeTables, dataset: str, decoding: str) -> dict:
    row = published.rouge_row(system, settings.paper, dataset)
    if row is None or settings.decodings[decoding].temperature != 1:
        names = ("family", "paper_student", "paper", "paper_note")
        return dict.fromkeys(names) | dict.fromkeys(("paper_origin", "comparable"), "n/a")
    return {
        "family": row["family"],
        "paper_student": row["student"],
        "paper": float(row["rouge_l"]),
        "paper_origin": row["origin"],
        "comparable": published.comparable(row, settings.decodings[decoding]),
        "paper_note": row["note"],
    }


def rouge_rows(cells: Mapping[Cell, Rows], settings: MakeTables) -> Iterator[dict]:
    """Yields Rouge-L of every system, with the paper's number (Table 1) where it has one, at temperature 1 as it."""
    for cell, rows in cells.items():
        system = settings.systems[cell[0]]
        about = {"student": system.student, "training_seed": system.seed, "method": system.method}
        yield _name(cell) | about | spread(rows) | _paper_cells(system, settings, *cell[1:])


def data_seen_rows(
    data_seen: Mapping[str, Mapping], cells: Mapping[Cell, Rows], settings: MakeTables
) -> Iterator[dict]:
    """Yields what the updates of every run drew (data_seen.json), beside its Rouge-L on the first set in the primary
    decoding. `prompt_set` tells sets of prompts apart.
    """
    dataset, decoding = settings.datasets[0], next(iter(settings.decodings))
    for name, seen in data_seen.items():
        system = settings.systems[name]
        yield {
            "system": name,
            "student": system.student,
            "training_seed": system.seed,
            "run": system.run,
            "method": system.method,
            "start": system.options["start"],
            "dropout": "yes" if system.options["dropout"] else "no",
            **{key: seen[key] for key in ("prompts", "responses", "labelled_rows", "sequences", "updates")},
            "prompt_set": seen["prompts_sha256"] and f"set {seen['prompts_sha256'][:8]}",
            "dataset": dataset,
            "decoding": decoding,
            "rouge": spread(cells[name, dataset, decoding])["mean"],
        }


def training_seed_rows(cells: Mapping[Cell, Rows], settings: MakeTables) -> Iterator[dict]:
    """Yields Rouge-L over training seeds of what was trained with several, beside the mean deviation over sampling
    seeds, which is None where each model answered once.
    """
    for name, members in recipes(settings.systems).items():
        if len(members) == 1:
            continue
        for dataset, decoding in product(settings.datasets, settings.decodings):
            spreads = [spread(cells[member, dataset, decoding]) for member in members]
            trained = mean_std([row["mean"] for row in spreads])
            yield _name((name, dataset, decoding)) | {
                "student": settings.systems[name].student,
                "method": settings.systems[name].method,
                "mean": trained.mean,
                "std_training": trained.std,
                "training_seeds": trained.n,
                "std_sampling": None if spreads[0]["std"] is None else fmean(row["std"] for row in spreads),
                "sampling_seeds": spreads[0]["seeds"],
                "prompts": spreads[0]["prompts"],
            }


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


def _direction(difference: float, is_clear: bool) -> str:
    return "undecided" if not is_clear else "higher" if difference > 0 else "lower"


def _change(interval: Interval) -> dict:
    return {
        "difference": interval.estimate,
        "lo": interval.lo,
        "hi": interval.hi,
        "prompts": interval.n,
        "verdict": _direction(interval.estimate, not interval.lo <= 0 <= interval.hi),
    }


def prompt_scores(cells: Mapping[Cell, Rows]) -> dict[Cell, dict[str, float]]:
    """Returns Rouge-L by prompt from prompt rows."""
    return {cell: {row["id"]: row["rouge_l"] for row in rows} for cell, rows in cells.items()}


def comparison_rows(scores: Scores, settings: MakeTables) -> Iterator[dict]:
    """Yields the difference in Rouge-L of each pair, prompt by prompt, with its 95% paired bootstrap interval.

    The pairs of one student and training seed on one set in one decoding are tested together: `verdict` is higher or
    lower where the p-value adjusted for their number (`tests`, Holm) is below 0.05, else undecided.
    """
    for (student, seed), pairs in comparison_families(settings.systems).items():
        for dataset, decoding in product(settings.datasets, settings.decodings):
            intervals = [
                paired_bootstrap(*(scores[system, dataset, decoding] for system in pair), settings.seed)
                for pair in pairs
            ]
            adjusted = holm([interval.p_value for interval in intervals])
            for pair, interval, p_adjusted in zip(pairs, intervals, adjusted, strict=True):
                yield {
                    "system": pair[0],
                    "baseline": pair[1],
                    "student": student,
                    "training_seed": seed,
                    "dataset": dataset,
                    "decoding": decoding,
                    **_change(interval),
                    "p_value": interval.p_value,
                    "tests": len(pairs),
                    "p_adjusted": p_adjusted,
                    "verdict": _direction(interval.estimate, p_adjusted < 0.05),
                }


def pair_rows(scores: Scores, settings: MakeTables) -> Iterator[dict]:
    """Yields every pair of a student's recipes, the teacher among them, on the first set in the primary decoding.

    Several training seeds are averaged prompt by prompt. All pairs of a student are tested together (`tests`, Holm).
    """
    pool, (dataset, decoding) = pooled(scores, settings.systems), (settings.datasets[0], next(iter(settings.decodings)))
    members = recipes(settings.systems)
    for student, pairs in all_pairs(settings.systems).items():
        intervals = [
            paired_bootstrap(*(pool[name, dataset, decoding] for name in pair), settings.seed) for pair in pairs
        ]
        adjusted = holm([interval.p_value for interval in intervals])
        for (system, other), interval, p_adjusted in zip(pairs, intervals, adjusted, strict=True):
            yield {
                "student": student,
                "system": system,
                "other": other,
                "training_seeds": len(members[system]),
                "dataset": dataset,
                "decoding": decoding,
                **_change(interval),
                "p_value": interval.p_value,
                "tests": len(pairs),
                "p_adjusted": p_adjusted,
                "verdict": _direction(interval.estimate, p_adjusted < 0.05),
            }


def candidate_rows(statistics: Mapping) -> Iterator[dict]:
    """Yields the statistics of the teacher's candidate sets by p; entropy and stored bytes are those of the whole."""
    whole = {name: statistics[name] for name in ("teacher_entropy", "bytes_per_token")}
    for row in statistics["sets"]:
        yield row | whole


def sorted_mass_rows(statistics: Mapping) -> Iterator[dict]:
    """Yields the teacher's mean mass within its k most probable tokens (paper, Figure 1), if it was measured."""
    for k, mass in enumerate(statistics.get("sorted_mass", ()), 1):
        yield {"k": k, "mass": mass}


def learning_rows(run: str, items: Rows, selected: int, seed: int) -> Iterator[dict]:
    """Yields the held-out objective, its linear part and the masses outside the sets at update 0, at the selected and
    at the last update.

    Later values come with their paired difference to update 0 and its 95% bootstrap interval over prompts; the samples
    of a prompt are averaged first, since they are not independent.

    Args:
        run: the run's name.
        items: rows {step, id, sample, loss, linear, ...} of dev_items.jsonl.
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


def training_row(run: str, system: ReportedSystem, metrics: Rows, dev: Rows, selected: int) -> dict:
    """Returns what a run took: seconds are those inside updates, without evaluation and saving.

    Args:
        run: the run's name.
        system: its method and recipe.
        metrics: a row an update (metrics.jsonl).
        dev: a row a checkpoint (dev.jsonl).
        selected: the selected update.
    """
    tokens, seconds = (sum(row[name] for row in metrics) for name in ("tokens", "seconds"))
    return {
        "run": run,
        "method": system.method,
        "updates": len(metrics),
        "sequences": len(metrics) * system.training.batch,
        "tokens": tokens,
        "mean_gradient_norm": fmean(row["gradient_norm"] for row in metrics),
        "final_dev_loss": dev[-1]["loss"],
        "selected_update": selected,
        "tokens_per_second": tokens / seconds,
        "seconds_per_update": seconds / len(metrics),
        "seconds": seconds,
    }


def hours_rows(training: Rows, shared: Mapping[str, float], settings: MakeTables) -> Iterator[dict]:
    """Yields what all updates of every run took beside the paper's hours (Table 3), then what was spent once for all
    runs.

    Args:
        training: rows of training.csv.
        shared: hours by what they were spent on; each job ran on one device.
        settings: the systems and the number of processes of a run.
    """
    for row in training:
        system, hours = settings.systems[row["run"]], row["seconds"] / 3600
        paper = published.hours_row(system, settings.paper)
        yield {
            "cost": "training",
            "system": row["run"],
            "method": system.method,
            "hours": hours,
            "processes": settings.processes,
            "device_hours": hours * settings.processes,
            "paper_hours": paper and float(paper["hours"]),
            "paper_hardware": paper and paper["hardware"],
        }
    for cost, hours in shared.items():
        once = {"cost": cost, "hours": hours, "processes": 1, "device_hours": hours}
        yield dict.fromkeys(("system", "method", "paper_hours", "paper_hardware")) | once
