"""The tables of Bellman Distill's options: p (paper, Table 2), the chi-square term (Table 4), and all runs together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from statistics import fmean

from distill.config.paper import Paper
from distill.config.stages.report import MakeTables, ReportedSystem
from distill.evaluation.statistics import mean_std, paired_bootstrap
from distill.report import published
from distill.report.recipes import Cell, Scores, beside, pooled, recipes, variants
from distill.report.tables import Rows, spread

PaperRow = Callable[[ReportedSystem, Paper | None, str], dict[str, str] | None]


def _chi_square(bellman: Mapping) -> str:
    return published.CHI_SQUARE.get(bellman["chi2"], bellman["chi2"])


def _groups(settings: MakeTables, *keys: str) -> Iterator[list[str]]:
    """Yields the bd systems that differ in these keys alone, where they differ in the first one."""
    grouped: set[str] = set()
    for name, system in settings.systems.items():
        if system.method == "bd" and name not in grouped:
            group = variants(settings.systems, name, *keys)
            grouped |= {*group}
            if len({settings.systems[member].options["bellman"][keys[0]] for member in group}) > 1:
                yield group


def _rows(
    group: Sequence[str],
    cells: Mapping[Cell, Rows],
    settings: MakeTables,
    option_cells: Mapping[str, Mapping],
    paper_row: PaperRow,
) -> Iterator[dict]:
    """Yields Rouge-L of a group's systems in the order of `option_cells`, with the paper's number at temperature 1."""
    for name, (dataset, decoding) in product(option_cells, product(settings.datasets, settings.decodings)):
        row = paper_row(settings.systems[name], settings.paper, dataset)
        cell = {"group": group[0], "system": name, "dataset": dataset, "decoding": decoding}
        paper = float(row["rouge_l"]) if row and settings.decodings[decoding].temperature == 1 else None
        yield cell | option_cells[name] | spread(cells[name, dataset, decoding]) | {"paper": paper}


def p_rows(cells: Mapping[Cell, Rows], settings: MakeTables) -> Iterator[dict]:
    """Yields Rouge-L by p (paper, Table 2), largest first, of bd runs that differ in p and clip_scope alone."""
    for group in _groups(settings, "p", "clip_scope"):
        bellman = {name: settings.systems[name].options["bellman"] for name in group}
        order = sorted(group, key=lambda name: (-bellman[name]["p"], bellman[name]["clip_scope"]))
        options = {name: {key: bellman[name][key] for key in ("p", "clip_scope")} for name in order}
        yield from _rows(group, cells, settings, options, published.p_row)


def chi_square_rows(cells: Mapping[Cell, Rows], settings: MakeTables) -> Iterator[dict]:
    """Yields Rouge-L with, without and with the centred chi-square term (paper, Table 4) of bd runs that differ in it
    alone."""
    for group in _groups(settings, "chi2"):
        chi2 = {name: _chi_square(settings.systems[name].options["bellman"]) for name in group}
        options = {name: {"chi2": chi2[name]} for name in sorted(group, key=chi2.get)}
        yield from _rows(group, cells, settings, options, published.chi_square_row)


def ablation_rows(
    cells: Mapping[Cell, Rows],
    scores: Scores,
    entropies: Mapping[str, Mapping[str, float]],
    dev_rouge: Mapping[str, float | None],
    settings: MakeTables,
) -> Iterator[dict]:
    """Yields every bd run with its options, its scores, and its difference to phase 1 and to the first SeqKD run of its
    student, with a 95% bootstrap interval over prompts. Several training seeds are averaged, in a difference prompt by
    prompt.

    Args:
        cells: seed rows.
        scores: Rouge-L by prompt.
        entropies: {system: {dataset: mean entropy along its own answers}}, of the primary decoding.
        dev_rouge: dev Rouge-L of each system's selected checkpoint; None where it was not measured.
        settings: the systems.
    """
    systems, pool = settings.systems, pooled(scores, settings.systems)
    primary = next(iter(settings.decodings))
    for name, members in recipes(systems).items():
        options = systems[name].options
        if systems[name].method != "bd":
            continue
        others = {
            "over_phase1": beside(systems, name, lambda system: system.run == "phase1"),
            "over_seqkd": beside(systems, name, lambda system: system.method == "seqkd"),
        }
        dev = [dev_rouge[member] for member in members]
        for dataset, decoding in product(settings.datasets, settings.decodings):
            rows = [row for member in members for row in cells[member, dataset, decoding]]
            test = mean_std([spread(cells[member, dataset, decoding])["mean"] for member in members])
            measured = [entropies[member][dataset] for member in members if dataset in entropies[member]]
            differences = {}
            for key, other in others.items():
                difference = (
                    paired_bootstrap(pool[name, dataset, decoding], pool[other, dataset, decoding], settings.seed)
                    if other
                    else None
                )
                values = (difference.estimate, difference.lo, difference.hi) if difference else (None,) * 3
                differences |= dict(zip((key, f"{key}_lo", f"{key}_hi"), values, strict=True))
            yield {
                "system": name,
                "student": systems[name].student,
                "training_seeds": test.n,
                **{key: options["bellman"][key] for key in ("objective", "p", "clip_scope", "alpha")},
                "remainder": "with" if options["bellman"]["remainder"] else "without",
                "chi2": _chi_square(options["bellman"]),
                "plain_text_weight": options["plain_text_weight"],
                "dataset": dataset,
                "decoding": decoding,
                "dev_rouge": None if None in dev else fmean(dev),
                "rouge": test.mean,
                "rouge_std": test.std,
                **differences,
                "entropy": fmean(measured) if measured and decoding == primary else None,
                "mean_tokens": fmean(row["mean_tokens"] for row in rows),
            }
