"""The paper's numbers, and which of them a system of a study may stand beside.

Table 1: Rouge-L of every method, `origin` MiniLLM where the paper copies that paper's rows; Table 2: Rouge-L by p;
Table 3: hours to the best validation score; Table 4: Rouge-L with and without the chi-square term.
"""

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from distill.config.generation import Decoding
from distill.config.paper import Paper
from distill.config.slices.make_tables import MakeTables
from distill.config.slices.reported_system import ReportedSystem

METHODS = {"sft": "SFT", "kd": "KD", "seqkd": "SeqKD", "minillm": "MiniLLM", "bd": "BD"}
METRIC = "rouge_l"
"""The metric of the paper's tables 1, 2 and 4, and of what it claims of scores."""
P = 0.8
"""The paper's p, but for OPT-1.3B."""
_BELLMAN = {"remainder": False, "gamma": 0.99, "alpha": 0.1, "q_min": -10.0, "clip_scope": "all"}
CHI_SQUARE = {"printed": "with", "none": "without"}
"""The cells of Table 4 by a run's `chi2`."""


@cache
def published(table: str) -> list[dict[str, str]]:
    """Returns a table's rows (`table1` to `table4`) as text."""
    with open(Path(__file__).with_name("paper") / f"{table}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def find(table: str, **cells: str) -> dict[str, str] | None:
    """Returns the first row of a table that holds these cells."""
    return next((row for row in published(table) if cells.items() <= row.items()), None)


def paper_method(system: ReportedSystem) -> str | None:
    """Returns the paper's name of a system's method; None for phase 1 or a base in its place, for a run that starts
    elsewhere than the paper's (an SFT continued from phase 1) or learns from stored sets for the teacher's whole
    distribution, and for other methods.
    """
    if system.run in ("teacher", "phase1", "base"):
        return {"teacher": "Teacher"}.get(system.run)
    if system.options.get("teacher") == "cached":
        return None
    start = "phase1" if system.method in ("minillm", "bd") else "base"
    return METHODS.get(system.method) if system.options["start"] == start else None


def bellman_setting(system: ReportedSystem) -> tuple[float, str] | None:
    """Returns p and chi2 of a bd run that differs from the paper's setting in nothing else; None for other runs.

    Either form of the objective counts, the printed and the released one: nobody can tell which made the numbers.
    """
    options = system.options
    if system.method != "bd" or options["start"] != "phase1" or options["permute_responses"]:
        return None
    bellman = options["bellman"]
    if bellman["objective"] == "expected" or bellman["chi2"] not in CHI_SQUARE:
        return None
    if any(bellman[key] != value for key, value in _BELLMAN.items()):
        return None
    return bellman["p"], bellman["chi2"]


def place(system: ReportedSystem, paper: Paper | None) -> dict[str, str] | None:
    """Returns the family and the student of the paper's rows for a system's model; None where the paper has none."""
    if paper is None:
        return None
    size = paper.students.get(system.student)
    if system.run == "teacher":
        size = (find("table1", family=paper.family, method="Teacher") or {}).get("student")
    return {"family": paper.family, "student": size} if size else None


def paper_p(where: Mapping[str, str] | None) -> float:
    """Returns the p of the paper's BD row for a model; 0.8 for models that the paper does not have."""
    row = find("table1", **where, method="BD") if where else None
    return float(row["p"]) if row else P


def _method_row(table: str, system: ReportedSystem, paper: Paper | None, **cells: str) -> dict[str, str] | None:
    where, method = place(system, paper), paper_method(system)
    if not where or not method or (method == "BD" and bellman_setting(system) != (paper_p(where), "printed")):
        return None
    return find(table, **where, **cells, method=method)


def score_row(system: ReportedSystem, paper: Paper | None, dataset: str) -> dict[str, str] | None:
    """Returns the row of Table 1 for a system on a set (dolly, self_inst or vicuna); None where there is none."""
    return _method_row("table1", system, paper, dataset=dataset)


def p_row(system: ReportedSystem, paper: Paper | None, dataset: str) -> dict[str, str] | None:
    """Returns the row of Table 2 for a bd run; None where there is none."""
    where, setting = place(system, paper), bellman_setting(system)
    if not where or not setting or setting[1] != "printed":
        return None
    return find("table2", **where, p=str(float(setting[0])), dataset=dataset)


def hours_row(system: ReportedSystem, paper: Paper | None) -> dict[str, str] | None:
    """Returns the row of Table 3 for a system; None where there is none."""
    return _method_row("table3", system, paper)


def chi_square_row(system: ReportedSystem, paper: Paper | None, dataset: str) -> dict[str, str] | None:
    """Returns the row of Table 4 for a bd run; None where there is none."""
    where, setting = place(system, paper), bellman_setting(system)
    if not where or not setting or setting[0] != paper_p(where):
        return None
    return find("table4", **where, chi2=CHI_SQUARE[setting[1]], dataset=dataset)


def goes_with(settings: MakeTables, dataset: str, decoding: str) -> bool:
    """Returns whether the paper's scores may stand beside those of a set in a decoding: Rouge-L at temperature 1."""
    return settings.metrics[dataset] == METRIC and settings.decodings[decoding].temperature == 1


def comparable(row: Mapping[str, str], decoding: Decoding) -> str:
    """Returns whether a row of Table 1 was scored as a decoding scores: yes, no or unknown.

    The copied rows were scored with temperature 1 and top-p 1. For its own rows the paper states temperature 1 and no
    top-p; its released scripts use 0.8.
    """
    if decoding.temperature != 1:
        return "no"
    if row["origin"] == "paper":
        return "unknown"
    return "yes" if decoding.top_p == 1 else "no"
