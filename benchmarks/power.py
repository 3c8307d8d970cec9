"""The smallest difference in Rouge-L that a comparison could show, from the variances in the committed studies.

    .venv/bin/python benchmarks/power.py docs/studies docs/studies/power

The difference of two methods' means over n prompts, S sampling seeds and T training seeds of each varies by

    prompts^2 / n + sampling^2 / (n S T) + 2 training^2 / T

`prompts` is the standard deviation over prompts of the expected difference, `sampling` that of the difference of two
single answers to one prompt, `training` that of one method's mean over its training seeds.
"""

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from math import sqrt
from pathlib import Path
from statistics import NormalDist, fmean, median, quantiles, variance
from typing import Any

from distill.report.published import METRIC, published

Rows = list[dict[str, Any]]

STUDIES = ("embedded", "ablations", "smollm2")
TRAINING_STUDY = "ablations"
SAMPLED, GREEDY = "sampled", "greedy"
PROMPTS = (80, 242, 500, 1000, 1694, 5000)
SAMPLING_SEEDS = 5
TRAINING_SEEDS = (1, 3, 5)
COMPARISONS = (1, 4, 12)
LEVEL, POWER = 0.05, 0.8
TEST_SETS = {"dolly": 500, "self_inst": 242, "vicuna": 80}
BASELINES = ("SFT", "KD", "SeqKD", "MiniLLM")
CLAIMED = ("embedded", "smollm2")
"""Studies whose variances stand beside the paper's leads."""
TRAINING = {"none": lambda values: 0.0, "median": median, "upper quartile": lambda values: quantiles(values, n=4)[2]}
"""Variances of training, of those of all runs."""


def read(folder: Path, table: str) -> Rows:
    """Returns the rows of a study's CSV table that are of the paper's metric."""
    with open(folder / "tables" / f"{table}.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["metric"] == METRIC]


def components(folder: Path) -> Rows:
    """Returns the variances of paired differences in a study: a row a set and decoding, means over its comparisons.

    The whole comes from the widths of the committed 95% intervals, the sampling part from the differences of the two
    systems' means seed by seed. The rest is the prompts' part, below 0 where chance makes it so. The teacher is left
    out, since what a study asks is which student is better, and so are pairs of one model, where a run kept its start:
    they differ nowhere.
    """
    means: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in read(folder, "score_seeds"):
        means.setdefault((row["system"], row["dataset"], row["decoding"]), {})[row["seed"]] = float(row["score"])
    groups: dict[tuple[str, str], Rows] = {}
    for row in read(folder, "comparisons"):
        if row["system"] != "teacher" and row["lo"] != row["hi"]:
            groups.setdefault((row["dataset"], row["decoding"]), []).append(row)

    found = []
    for (dataset, decoding), pairs in groups.items():
        whole, sampling = [], []
        for row in pairs:
            n = int(row["prompts"])
            whole.append(n * ((float(row["hi"]) - float(row["lo"])) / (2 * NormalDist().inv_cdf(0.975))) ** 2)
            seeded = f"{row['baseline']}.seed{row['training_seed']}"
            baseline = seeded if (seeded, dataset, decoding) in means else row["baseline"]
            own, other = means[row["system"], dataset, decoding], means[baseline, dataset, decoding]
            if len(own) > 1:
                sampling.append(n * variance(own[seed] - other[seed] for seed in own))
        seeds = len(own)
        by_sampling = fmean(sampling) if sampling else 0.0
        found.append(
            {
                "study": folder.name,
                "dataset": dataset,
                "decoding": decoding,
                "prompts": n,
                "sampling_seeds": seeds,
                "pairs": len(pairs),
                "variance": fmean(whole),
                "sampling_variance": by_sampling,
                "prompt_variance": fmean(whole) - by_sampling / seeds,
            }
        )
    return found


def training_variances(folder: Path) -> dict[str, float]:
    """Returns each run's variance over training seeds, a mean over sets and decodings.

    Every training seed answers with the same sampling seeds, so what their mean still owes to sampling is the
    interaction of the two, which is taken off; an estimate may fall below 0.
    """
    cells: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for row in read(folder, "score_seeds"):
        run = row["system"].partition(".seed")[0]
        cells.setdefault((run, row["dataset"], row["decoding"]), {}).setdefault(row["system"], []).append(
            float(row["score"])
        )
    found: dict[str, list[float]] = {}
    for (run, *_), by_training in cells.items():
        table = list(by_training.values())
        if len(table) > 1:
            sampling, means = [fmean(column) for column in zip(*table, strict=True)], [fmean(row) for row in table]
            residuals = [
                value - mean - column + fmean(means)
                for mean, row in zip(means, table, strict=True)
                for value, column in zip(row, sampling, strict=True)
            ]
            freedom = (len(table) - 1) * (len(sampling) - 1)
            interaction = sum(value**2 for value in residuals) / freedom
            found.setdefault(run, []).append(variance(means) - interaction / len(sampling))
    return {run: fmean(values) for run, values in found.items()}


def smallest_difference(
    prompt: float, sampling: float, training: float, prompts: int, sampling_seeds: int, seeds: int, comparisons: int
) -> float:
    """Returns the difference that is found with probability 0.8, two-sided at 0.05 by the first step of Holm's method.

    The normal quantiles take the variances as known; the first three arguments are variances.
    """
    error = sqrt(prompt / prompts + sampling / (prompts * sampling_seeds * seeds) + 2 * training / seeds)
    normal = NormalDist()
    return (normal.inv_cdf(1 - LEVEL / comparisons / 2) + normal.inv_cdf(POWER)) * error


def pooled(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Returns the mean prompt and sampling variances of components, none below 0."""
    return tuple(max(0.0, fmean(row[name] for row in rows)) for name in ("prompt_variance", "sampling_variance"))


def of_kind(found: Iterable[Mapping[str, Any]], study: str, kind: str) -> list[Mapping[str, Any]]:
    """Returns a study's components that were decoded greedily, or by sampling at any top-p."""
    return [row for row in found if row["study"] == study and (row["decoding"] == GREEDY) == (kind == GREEDY)]


def detectable(found: Sequence[Mapping[str, Any]], training: Mapping[str, float]) -> Rows:
    """Returns the smallest differences for each study's pooled variances.

    Three variances of training: none, which asks about the models that were trained and not about the methods; the
    median run's; and the upper quartile of runs.
    """
    shares = {name: max(0.0, value(training.values())) for name, value in TRAINING.items()}
    rows = []
    for study, kind in product(STUDIES, (SAMPLED, GREEDY)):
        if not (own := of_kind(found, study, kind)):
            continue
        seeds = 1 if kind == GREEDY else SAMPLING_SEEDS
        for (name, share), trained, prompts in product(shares.items(), TRAINING_SEEDS, PROMPTS):
            rows.append(
                {
                    "study": study,
                    "decoding": kind,
                    "training": name,
                    "training_sd": sqrt(share),
                    "training_seeds": trained,
                    "prompts": prompts,
                }
                | {
                    f"tests_{count}": smallest_difference(*pooled(own), share, prompts, seeds, trained, count)
                    for count in COMPARISONS
                }
            )
    return rows


def claims(table: Rows, found: Sequence[Mapping[str, Any]], training: Mapping[str, float]) -> Rows:
    """Returns the paper's leads of BD beside what its own test sets could show, a row a student, set and baseline.

    The paper trains once: one training seed with the training variance left out is what its figures can say about the
    models; three training seeds with each variance, what they would say about the methods.
    """
    scores = {(row["family"], row["student"], row["dataset"], row["method"]): float(row["rouge_l"]) for row in table}
    shares = {name: max(0.0, value(training.values())) for name, value in TRAINING.items()}
    variances = {study: pooled(of_kind(found, study, SAMPLED)) for study in CLAIMED}
    rows = []
    for (family, student, dataset, method), score in scores.items():
        if method not in BASELINES:
            continue
        row = {"family": family, "student": student, "dataset": dataset, "baseline": method}
        row["lead"] = scores[family, student, dataset, "BD"] - score
        for study, (name, share) in product(CLAIMED, shares.items()):
            seeds = 1 if name == "none" else 3
            row[f"{study}_{name.replace(' ', '_')}_{seeds}"] = smallest_difference(
                *variances[study], share, TEST_SETS[dataset], SAMPLING_SEEDS, seeds, len(BASELINES)
            )
        rows.append(row)
    return rows


def page(found: Rows, training: Mapping[str, float], smallest: Rows, leads: Rows) -> str:
    """Returns tables.md: the parts of the variance, the smallest differences, and how many of the paper's leads exceed
    them.
    """
    lines = ["# What a comparison could show", "", "Points of Rouge-L; made by `benchmarks/power.py`.", ""]
    lines += ["## Standard deviations, means over sets", ""]
    lines += ["| study | decoding | pairs | over prompts | over answers to a prompt |", "|---|---|---:|---:|---:|"]
    for study, kind in product(STUDIES, (SAMPLED, GREEDY)):
        if own := of_kind(found, study, kind):
            prompt, sampling = map(sqrt, pooled(own))
            answers = "in the former" if kind == GREEDY else f"{sampling:.1f}"
            lines.append(f"| {study} | {kind} | {sum(row['pairs'] for row in own)} | {prompt:.1f} | {answers} |")
    quartiles = ", ".join(f"{sqrt(max(0.0, value)):.2f}" for value in quantiles(training.values(), n=4))
    worst = max(training, key=training.__getitem__)
    lines += [
        "",
        f"Over training seeds of one method ({TRAINING_STUDY}, {len(training)} runs): quartiles {quartiles}; ",
    ]
    lines[-1] += f"`{worst}` {sqrt(training[worst]):.2f}."
    lines += ["", f"## Smallest difference, Holm over {len(BASELINES)} comparisons", ""]
    lines += [f"| variances of | decoding | training | seeds | {' | '.join(f'{n:,} prompts' for n in PROMPTS)} |"]
    lines += ["|---|---|---|---:|" + "---:|" * len(PROMPTS)]
    cells: dict[tuple[str, str, str, int], list[str]] = {}
    for row in smallest:
        if row["study"] in CLAIMED:
            key = row["study"], row["decoding"], f"{row['training']} ({row['training_sd']:.2f})", row["training_seeds"]
            cells.setdefault(key, []).append(f"{row[f'tests_{len(BASELINES)}']:.1f}")
    lines += [f"| {' | '.join(map(str, (*key, *values)))} |" for key, values in cells.items()]
    thresholds = [name for name in leads[0] if name.startswith(CLAIMED)]
    lines += ["", "## Leads of BD in the paper's Table 1 that exceed the smallest difference on its own test sets", ""]
    lines += [f"| set | over | students | {' | '.join(name.replace('_', ' ') for name in thresholds)} |"]
    lines += ["|---|---|---:|" + "---:|" * len(thresholds)]
    for dataset, baseline in product(TEST_SETS, BASELINES):
        own = [row for row in leads if (row["dataset"], row["baseline"]) == (dataset, baseline)]
        counts = [str(sum(row["lead"] > row[name] for row in own)) for name in thresholds]
        lines.append(f"| {dataset} ({TEST_SETS[dataset]}) | {baseline} | {len(own)} | {' | '.join(counts)} |")
    lines += ["", "Columns: study that the variances come from, variance of training, training seeds."]
    return "\n".join(lines) + "\n"


def write(path: Path, rows: Rows) -> None:
    """Writes rows as CSV, floats to three places."""
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows({key: f"{v:.3f}" if isinstance(v, float) else v for key, v in row.items()} for row in rows)


def main() -> None:
    """Writes components.csv, training.csv, detectable.csv, claims.csv and tables.md."""
    studies, folder = map(Path, sys.argv[1:])
    found = [row for study in STUDIES for row in components(studies / study)]
    training = training_variances(studies / TRAINING_STUDY)
    smallest, leads = detectable(found, training), claims(published("table1"), found, training)
    write(folder / "components.csv", found)
    write(folder / "training.csv", [{"run": run, "training_variance": value} for run, value in training.items()])
    write(folder / "detectable.csv", smallest)
    write(folder / "claims.csv", leads)
    (folder / "tables.md").write_text(page(found, training, smallest, leads))


if __name__ == "__main__":
    main()
