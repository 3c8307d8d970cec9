"""The tables as CSV files: their columns, their writing in full precision, and their reading."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from distill.errors import DataError

COLUMNS = {
    "rouge": (
        "system", "student", "training_seed", "method", "dataset", "decoding", "mean", "std", "seeds", "prompts",
        "family", "paper_student", "paper", "paper_origin", "comparable", "paper_note",
    ),
    "data_seen": (
        "system", "student", "training_seed", "run", "method", "start", "dropout", "prompts", "responses",
        "labelled_rows", "sequences", "updates", "prompt_set", "dataset", "decoding", "rouge",
    ),
    "rouge_seeds": ("system", "dataset", "decoding", "seed", "rouge_l"),
    "training_seeds": (
        "system", "student", "method", "dataset", "decoding", "mean", "std_training", "training_seeds", "std_sampling",
        "sampling_seeds", "prompts",
    ),
    "claims": (
        "claim", "paper", "student", "objective", "system", "against", "dataset", "decoding", "quantity", "figure",
        "lo", "hi", "verdict", "reason",
    ),
    "comparisons": (
        "system", "baseline", "student", "training_seed", "dataset", "decoding", "difference", "lo", "hi", "prompts",
        "p_value", "tests", "p_adjusted", "verdict",
    ),
    "pairs": (
        "student", "system", "other", "training_seeds", "dataset", "decoding", "difference", "lo", "hi", "prompts",
        "p_value", "tests", "p_adjusted", "verdict",
    ),
    "quality": (
        "system", "dataset", "decoding", "mean_tokens", "finished", "distinct_1", "distinct_2", "exact_match",
        "entropy",
    ),
    "p_study": (
        "group", "system", "p", "clip_scope", "dataset", "decoding", "mean", "std", "seeds", "prompts", "paper",
    ),
    "chi_square": ("group", "system", "chi2", "dataset", "decoding", "mean", "std", "seeds", "prompts", "paper"),
    "ablations": (
        "system", "student", "training_seeds", "objective", "remainder", "p", "clip_scope", "chi2", "alpha",
        "plain_text_weight", "dataset", "decoding", "dev_rouge", "rouge", "rouge_std",
        "over_phase1", "over_phase1_lo", "over_phase1_hi", "over_seqkd", "over_seqkd_lo", "over_seqkd_hi",
        "entropy", "mean_tokens",
    ),
    "hours": ("cost", "system", "method", "hours", "processes", "device_hours", "paper_hours", "paper_hardware"),
    "candidate_sets": (
        "p", "states", "median_size", "mean_size", "singletons", "p_eff", "out_of_set", "teacher_entropy",
        "bytes_per_token",
    ),
    "sorted_mass": ("k", "mass"),
    "learning": ("run", "quantity", "at", "update", "mean", "difference", "lo", "hi", "prompts", "verdict"),
    "win_rates": (
        "system", "opponent", "judge", "dataset", "decoding", "seed", "prompts", "win_rate", "lo", "hi", "wins", "ties",
        "losses", "win_rate_first", "win_rate_second", "consistency", "unparsable", "spent_usd",
    ),
    "selection": ("run", "rule", "update", "chosen", "dev_loss", "dev_rouge"),
    "training": (
        "run", "method", "updates", "sequences", "tokens", "mean_gradient_norm", "final_dev_loss",
        "selected_update", "tokens_per_second", "seconds_per_update", "seconds",
    ),
}  # fmt: skip
"""Columns by table; a table `name` is the file `name.csv`."""

KEYS = {
    "rouge": ("system", "dataset", "decoding"),
    "data_seen": ("system",),
    "rouge_seeds": ("system", "dataset", "decoding", "seed"),
    "training_seeds": ("system", "dataset", "decoding"),
    "claims": ("claim", "student", "objective", "system", "against", "dataset", "decoding"),
    "comparisons": ("system", "baseline", "dataset", "decoding"),
    "pairs": ("student", "system", "other"),
    "quality": ("system", "dataset", "decoding"),
    "p_study": ("group", "system", "dataset", "decoding"),
    "chi_square": ("group", "system", "dataset", "decoding"),
    "ablations": ("system", "dataset", "decoding"),
    "hours": ("cost", "system"),
    "candidate_sets": ("p",),
    "sorted_mass": ("k",),
    "learning": ("run", "quantity", "at"),
    "win_rates": ("system", "opponent", "judge", "dataset", "decoding"),
    "selection": ("run", "update"),
    "training": ("run",),
}
"""Columns by table that tell its rows apart."""
TIMES = {
    "hours": ("hours", "device_hours"),
    "training": COLUMNS["training"][COLUMNS["training"].index("tokens_per_second") :],
}
"""Columns of measured times, which no rerun repeats; of `claims` it is the rows of time ratios."""


def without_times(name: str, rows: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """Returns a table's rows without what a clock measured."""
    kept = (row for row in rows if row.get("quantity") != "time ratio")
    return [{key: value for key, value in row.items() if key not in TIMES.get(name, ())} for row in kept]


def cell_text(value: object) -> str:
    """Returns a value as a cell holds it."""
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def write_table(folder: Path, name: str, rows: Iterable[Mapping]) -> None:
    """Writes a table; floats as the shortest text that reads back equal, None as an empty cell.

    Raises:
        KeyError: a row lacks a column.
    """
    with open(folder / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS[name])
        writer.writerows([cell_text(row[column]) for column in COLUMNS[name]] for row in rows)


def read_table(folder: Path, name: str) -> list[dict[str, str]]:
    """Returns a table's rows as text.

    Raises:
        DataError: the file is missing or has other columns.
    """
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise DataError(f"{path}: expected a table, found none; rerun make_tables")
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS[name]:
            raise DataError(
                f"{path}:1: expected the columns {','.join(COLUMNS[name])}, found {','.join(reader.fieldnames or ())}; "
                "rerun make_tables"
            )
        return list(reader)
