"""Bellman Distill's options: runs that are alike but for some of them, and their scores beside the paper's."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product

from distill.config.paper import Paper
from distill.config.slices.make_tables import MakeTables
from distill.config.slices.reported_system import ReportedSystem
from distill.report.measured import Rows, named, spread
from distill.report.published import CHI_SQUARE, goes_with
from distill.report.recipes import Cell, variants

PaperRow = Callable[[ReportedSystem, Paper | None, str], dict[str, str] | None]


def chi_square_of(system: ReportedSystem) -> str:
    """Returns what the tables call a bd run's chi-square term."""
    chi2 = system.options["bellman"]["chi2"]
    return CHI_SQUARE.get(chi2, chi2)


def groups(settings: MakeTables, *keys: str) -> Iterator[list[str]]:
    """Yields the bd systems that differ in these keys alone, where they differ in the first one."""
    grouped: set[str] = set()
    for name, system in settings.systems.items():
        if system.method == "bd" and name not in grouped:
            group = variants(settings.systems, name, *keys)
            grouped |= {*group}
            if len({settings.systems[member].options["bellman"][keys[0]] for member in group}) > 1:
                yield group


def option_rows(
    group: Sequence[str],
    cells: Mapping[Cell, Rows],
    settings: MakeTables,
    options: Mapping[str, Mapping],
    paper_row: PaperRow,
) -> Iterator[dict]:
    """Yields the scores of a group's systems in the order of `options`, with the paper's numbers where they fit."""
    for name, (dataset, decoding) in product(options, product(settings.datasets, settings.decodings)):
        row = paper_row(settings.systems[name], settings.paper, dataset)
        paper = float(row["rouge_l"]) if row and goes_with(settings, dataset, decoding) else None
        cell = {"group": group[0], **named((name, dataset, decoding)), "metric": settings.metrics[dataset]}
        yield {**cell, **options[name], **spread(cells[name, dataset, decoding]), "paper": paper}
