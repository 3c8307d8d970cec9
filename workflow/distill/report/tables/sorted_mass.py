"""Mean mass of the teacher's k most probable tokens over the states of its own samples that a token follows (paper,
Figure 1).
"""

from collections.abc import Iterator, Mapping

from distill.report.evidence import candidate_sets
from distill.report.markdown import Part, grid, share, show
from distill.report.table import Table, View

SHOWN_K = (1, 2, 3, 5, 7, 10, 20, 50)


def sorted_mass_rows(statistics: Mapping) -> Iterator[dict]:
    """Yields the teacher's mean mass within its k most probable tokens (paper, Figure 1), if it was measured."""
    for k, mass in enumerate(statistics.get("sorted_mass", ()), 1):
        yield {"k": k, "mass": mass}


def _markdown(view: View) -> list[Part]:
    rows = [row for row in view.rows if int(row["k"]) in SHOWN_K]
    return [
        *view.head(),
        grid(["k", *(row["k"] for row in rows)], [["mass", *(show(share("mass"), row) for row in rows)]]),
    ]


TABLE = Table(
    order=140,
    title="Sorted token mass of the teacher",
    columns=("k", "mass"),
    keys=("k",),
    rows=lambda study: sorted_mass_rows(study.measured.sets) if study.measured.sets else [],
    evidence=candidate_sets,
    markdown=_markdown,
)
