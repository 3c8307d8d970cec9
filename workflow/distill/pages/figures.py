"""The figures, drawn from the CSV tables and the runs' logs: equal data give equal bytes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import fmean
from textwrap import fill
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, ScalarFormatter
from matplotlib.typing import RcKeyType

from distill.evaluation.statistics import Interval
from distill.metrics.registry import load_metric

Table = Sequence[Mapping[str, str]]
Logs = Mapping[str, Sequence[Mapping]]
FORMATS = ("png", "svg", "pdf")
WIDTH = 9.6
"""Inches, by default; text of 9 points is then readable at the width of a page."""
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#bdbdbd"
GRID, STRIPE = "#e4e4e4", "#f4f4f4"
SERIES = ((BLUE, "o"), ("#e69f00", "s"), ("#009e73", "^"), ("#cc79a7", "D"), ("#56b4e9", "v"), (ORANGE, "P"))
"""Colours (Okabe and Ito's palette, told apart by colour-blind readers) and markers of what is compared in a panel."""
MARKED_K = (7, 50)
_POINTS = 100
_UNDATED = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
_STYLE: dict[RcKeyType, Any] = {
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "legend.frameon": False,
    "savefig.dpi": 144,
    "svg.hashsalt": "distill",
    # Text stays text, which can be searched, and edited before print.
    "pdf.fonttype": 42,
    "text.parse_math": False,
}


@contextmanager
def style(width: float = WIDTH) -> Iterator[None]:
    """Sets every parameter, so that no settings file of the machine changes a figure; `width` is in inches."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE | {"figure.figsize": (width, width)})
        yield


def _width() -> float:
    """Returns the width of figures in inches."""
    return matplotlib.rcParams["figure.figsize"][0]


def _panels(
    count: int, columns: int, height: float, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Returns a figure with so many panels, each of a height in inches, row by row; a narrow one has fewer columns."""
    columns = max(1, int(min(columns, count) * min(1, _width() / WIDTH)))
    rows = -(-count // columns)
    figure = Figure(figsize=(_width(), rows * height + 0.7))
    panels = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey).flatten().tolist()
    for unused in panels[count:]:
        unused.remove()
    return figure, panels[:count]


def _legend_columns(entries: int) -> int:
    return max(1, int(entries * min(1, _width() / WIDTH)))


def _legend(figure: Figure, source: Axes) -> None:
    """Puts the legend above all panels, where it covers nothing."""
    handles, labels = source.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=_legend_columns(len(labels)))


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)


def _printable(text: str) -> str:
    """Returns a text of somebody else's without the signs that no XML may hold."""
    return "".join(char if char.isprintable() else " " for char in text)


def sorted_mass_figure(rows: Table) -> Figure:
    """Draws the teacher's mean mass within its k most probable tokens (paper, Figure 1).

    Args:
        rows: sorted_mass.csv.
    """
    mass = {int(row["k"]): float(row["mass"]) for row in rows}
    figure, (axes,) = _panels(1, 1, 3.4)
    axes.plot(list(mass), list(mass.values()), color=BLUE, marker="o", markersize=3)
    for k in (k for k in MARKED_K if k in mass):
        label = f"top {k}: {mass[k]:.1%}"
        axes.annotate(label, (k, mass[k]), (0, -16), textcoords="offset points", ha="center", va="top")
        axes.plot(k, mass[k], "o", color=ORANGE)
    axes.set_xscale("log")
    axes.set_xticks([k for k in (1, 2, 3, 5, 7, 10, 20, 30, 50) if k in mass], minor=False)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlim(0.9, max(mass) * 1.25)
    axes.set_ylim(0, 1.04)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("k, the number of most probable tokens (logarithmic)")
    axes.set_ylabel("mean teacher mass within them")
    return figure


def win_rate_figure(rows: Table) -> Figure:
    """Draws wins, ties and losses of each judged pair, and its win rate with the 95% interval (paper, Figure 2).

    Args:
        rows: win_rates.csv.
    """
    is_narrow = _width() < WIDTH / 2
    figure = Figure(figsize=(_width(), (0.3 * len(rows) + 1.3) * (1 + is_narrow)))
    if is_narrow:
        shares, rates = figure.subplots(2, 1)
    else:
        shares, rates = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    names = [f"{row['system']} against {row['opponent']}" for row in rows]
    left = [0.0] * len(rows)
    for kind, colour, ink in (("wins", BLUE, "white"), ("ties", GREY, "black"), ("losses", ORANGE, "black")):
        values = [float(row[kind]) for row in rows]
        bars = shares.barh(range(len(rows)), values, 0.72, left, color=colour, label=kind)
        # A share too small for its number is read off the table.
        labels = [f"{value:.0%}" if value >= 0.06 else "" for value in values]
        shares.bar_label(bars, labels, label_type="center", color=ink, fontsize=8)
        left = [start + value for start, value in zip(left, values, strict=True)]
    for index, row in enumerate(rows):
        rate, lo, hi = (float(row[name]) for name in ("win_rate", "lo", "hi"))
        rates.errorbar(rate, index, xerr=[[rate - lo], [hi - rate]], color="black", fmt="o", markersize=4, capsize=3)
    rates.axvline(0.5, color=GREY, linestyle="--")
    for axes in (shares, rates):
        _name_rows(axes, names)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
    rates.tick_params(labelleft=is_narrow)
    shares.set_title("share of verdicts")
    rates.set_title("win rate with 95% interval")
    asked = {
        f"judge: {_printable(row['judge'])}; {row['prompts']} prompts of {row['dataset']}, {row['decoding']}, "
        f"seed {row['seed']}"
        for row in rows
    }
    figure.supxlabel("\n".join(fill(text, int(14 * _width())) for text in sorted(asked)), fontsize=9)
    _legend(figure, shares)
    return figure


def score_figure(scores: Mapping[tuple[str, str, str], Interval], titles: Mapping[str, str]) -> Figure:
    """Draws each system's score with its interval: a panel a set, a colour a decoding; one metric has one axis.

    Args:
        scores: by (system, dataset, decoding), in the tables' order.
        titles: of each dataset's metric.
    """
    systems, datasets, decodings = (list(dict.fromkeys(names)) for names in zip(*scores, strict=True))
    height = (0.11 * len(decodings) + 0.1) * len(systems) + 0.5
    is_one_quantity = len({*titles.values()}) == 1
    figure, panels = _panels(len(datasets), len(datasets), height, sharex=is_one_quantity, sharey=True)
    for axes, dataset in zip(panels, datasets, strict=True):
        for index, (decoding, (colour, marker)) in enumerate(zip(decodings, cycle(SERIES))):  # noqa: B905 - endless
            means = [scores[system, dataset, decoding] for system in systems]
            places = [row + (index - (len(decodings) - 1) / 2) * 0.8 / len(decodings) for row in range(len(systems))]
            ends = [[mean.estimate - mean.lo for mean in means], [mean.hi - mean.estimate for mean in means]]
            estimates = [mean.estimate for mean in means]
            axes.errorbar(estimates, places, xerr=ends, color=colour, fmt=marker, markersize=4, label=decoding)
        for row in range(1, len(systems), 2):
            axes.axhspan(row - 0.5, row + 0.5, color=STRIPE, zorder=0)
        _name_rows(axes, systems)
        axes.set_title(f"{dataset} ({next(iter(scores[name, dataset, decodings[0]] for name in systems)).n} prompts)")
        axes.set_xlabel(titles[dataset])
    _legend(figure, panels[0])
    return figure


def _thin(rows: Sequence[Mapping], key: str) -> tuple[list[float], list[float]]:
    """Returns updates and values of a log, averaged in equal bins where it is longer than what a panel can show."""
    size = -(-len(rows) // _POINTS)
    bins = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [fmean(row["step"] for row in part) for part in bins], [fmean(row[key] for row in part) for part in bins]


def _by_recipe(runs: Iterable[str], recipes: Mapping[str, str]) -> dict[str, list[str]]:
    """Returns the runs that differ in nothing but their training seed, by what they share."""
    groups: dict[str, list[str]] = {}
    for run in dict.fromkeys(runs):
        groups.setdefault(recipes[run], []).append(run)
    return groups


def _curve_panels(groups: Mapping[str, list[str]], sharey: bool = False) -> tuple[Figure, dict[str, Axes]]:
    figure, panels = _panels(len(groups), 4, 1.9, sharey=sharey)
    for axes, name in zip(panels, groups, strict=True):
        axes.set_title(name)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    figure.supxlabel("update", fontsize=9)
    return figure, dict(zip(groups, panels, strict=True))


def _ring(axes: Axes, update: float, value: float, label: str | None) -> None:
    axes.plot(update, value, "o", markersize=9, markerfacecolor="none", markeredgecolor="black", label=label)


def loss_figure(selection: Table, metrics: Logs, dev: Logs, recipes: Mapping[str, str]) -> Figure:
    """Draws every run's loss in training and on dev data by update: a panel a run, a line a training seed.

    Args:
        selection: selection.csv; the selected update is ringed.
        metrics: metrics.jsonl by run.
        dev: dev.jsonl by run.
        recipes: each run's name without its training seed.
    """
    chosen = {row["run"]: int(row["update"]) for row in selection if row["chosen"] == "yes"}
    groups = _by_recipe(metrics, recipes)
    figure, panels = _curve_panels(groups)
    for name, runs in groups.items():
        for index, run in enumerate(runs):
            labels = ("training", "dev", "selected") if index == 0 else (None, None, None)
            panels[name].plot(*_thin(metrics[run], "loss"), color="#56b4e9", linewidth=0.9, label=labels[0])
            steps, losses = [row["step"] for row in dev[run]], [row["loss"] for row in dev[run]]
            panels[name].plot(steps, losses, color=ORANGE, marker=".", label=labels[1])
            _ring(panels[name], chosen[run], losses[steps.index(chosen[run])], labels[2])
    figure.supylabel("loss", fontsize=9)
    _legend(figure, next(iter(panels.values())))
    return figure


def dev_score_figure(selection: Table, recipes: Mapping[str, str]) -> Figure | None:
    """Draws the dev score by update of the runs that are selected by one; None if no run is.

    Args:
        selection: selection.csv.
        recipes: each run's name without its training seed.
    """
    scored = [row for row in selection if row["dev_score"]]
    if not scored:
        return None
    titles = {row["run"]: load_metric(row["metric"]).title for row in scored}
    label = f"dev {next(iter(titles.values())) if len({*titles.values()}) == 1 else 'score'}"
    groups = _by_recipe(titles, recipes)
    figure, panels = _curve_panels(groups, sharey=True)
    for name, runs in groups.items():
        if label == "dev score":
            panels[name].set_title(f"{name} ({titles[runs[0]]})")
        for index, run in enumerate(runs):
            labels = (label, "selected") if index == 0 else (None, None)
            rows = [row for row in scored if row["run"] == run]
            points = [(int(row["update"]), float(row["dev_score"])) for row in rows]
            panels[name].plot(*zip(*points, strict=True), color=BLUE, marker=".", label=labels[0])
            for point, row in zip(points, rows, strict=True):
                if row["chosen"] == "yes":
                    _ring(panels[name], *point, labels[1])
    figure.supylabel(label, fontsize=9)
    _legend(figure, next(iter(panels.values())))
    return figure


@dataclass(frozen=True)
class Curve:
    """A quantity that runs log at each update: its axis, and its lines' names by their key in metrics.jsonl."""

    label: str
    lines: Mapping[str, str]
    is_logarithmic: bool = False


CURVES = {
    "gradient_norm": Curve("gradient norm", {"gradient_norm": "before clipping"}, is_logarithmic=True),
    "tokens_per_second": Curve("tokens a second", {"tokens_per_second": "tokens a second"}, is_logarithmic=True),
    "entropy": Curve("nats", {"policy/entropy": "entropy of the student"}),
    "out_of_set": Curve(
        "share outside the teacher's sets",
        {"bellman/oos_fraction": "tokens of the teacher's samples", "bellman/student_outside": "mass of the student"},
    ),
}


def curve_figure(curve: Curve, metrics: Logs, recipes: Mapping[str, str]) -> Figure | None:
    """Draws a quantity by update: a panel a run, one axis for all, a line a training seed; None if no run logs it.

    Args:
        curve: the quantity.
        metrics: metrics.jsonl by run.
        recipes: each run's name without its training seed.
    """
    logged = {
        run: {key: own for key in curve.lines if (own := [row for row in rows if row.get(key) is not None])}
        for run, rows in metrics.items()
    }
    logged = {run: lines for run, lines in logged.items() if lines}
    if not logged:
        return None
    groups = _by_recipe(logged, recipes)
    figure, panels = _curve_panels(groups, sharey=True)
    for name, runs in groups.items():
        for run in runs:
            for (key, label), (colour, _) in zip(curve.lines.items(), SERIES):  # noqa: B905 - more colours than lines
                if key in logged[run]:
                    panels[name].plot(*_thin(logged[run][key], key), color=colour, linewidth=0.9, label=label)
        if curve.is_logarithmic:
            panels[name].set_yscale("log")
    handles: dict[str, Artist] = {}
    for axes in panels.values():
        found, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, found, strict=True))
    figure.legend([*handles.values()], [*handles], loc="outside upper center", ncols=_legend_columns(len(handles)))
    figure.supylabel(curve.label, fontsize=9)
    return figure


def write_figures(
    folder: Path,
    tables: Mapping[str, Table],
    scores: Mapping[tuple[str, str, str], Interval],
    titles: Mapping[str, str],
    metrics: Logs,
    dev: Logs,
    recipes: Mapping[str, str],
    labels: Mapping[str, str],
    width: float = WIDTH,
) -> None:
    """Writes every figure that the study has data for, in each of the formats.

    Args:
        folder: where they go.
        tables: sorted_mass.csv, win_rates.csv and selection.csv by name.
        scores: with their intervals by (system, dataset, decoding), in the tables' order.
        titles: of each dataset's metric.
        metrics: metrics.jsonl by run.
        dev: dev.jsonl by run.
        recipes: each run's name without its training seed.
        labels: what stands for a system's name.
        width: in inches.
    """
    scores = {(labels.get(key[0], key[0]), key[1], key[2]): score for key, score in scores.items()}
    recipes = {run: labels.get(name, name) for run, name in recipes.items()}
    judged = [
        {**row, **{side: labels.get(row[side], row[side]) for side in ("system", "opponent")}}
        for row in tables["win_rates"]
    ]
    with style(width):
        figures = {
            "figure1": sorted_mass_figure(tables["sorted_mass"]) if tables["sorted_mass"] else None,
            "figure2": win_rate_figure(judged) if judged else None,
            "scores": score_figure(scores, titles),
            "loss": loss_figure(tables["selection"], metrics, dev, recipes) if metrics else None,
            "dev_scores": dev_score_figure(tables["selection"], recipes),
            **{name: curve_figure(curve, metrics, recipes) for name, curve in CURVES.items()},
        }
        for name, figure in figures.items():
            if figure:
                for kind in FORMATS:
                    figure.savefig(folder / f"{name}.{kind}", metadata=_UNDATED[kind])
                    figure.set_layout_engine("none")  # laid out once, the same for all formats
