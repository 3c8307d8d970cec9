"""The teacher's top-p sets at the states of its own samples. Where a set has one token the projected likelihood of
Bellman Distill has no gradient. p_eff: mean teacher mass inside a set. Out of set: share of sampled tokens outside.
The teacher's mean entropy at these states is {teacher_entropy} nats; the stored sets, those of the largest p, take
{bytes_per_token} bytes a response token.
"""

from collections.abc import Iterator, Mapping

from distill.report.evidence import candidate_sets
from distill.report.markdown import Forms, Part, columns_of, fixed, number, share
from distill.report.table import Table, View

WHOLE = {"teacher_entropy": 2, "bytes_per_token": 0}
"""Columns that hold for all sets together, with their decimals in tables.md."""


def candidate_rows(statistics: Mapping) -> Iterator[dict]:
    """Yields the statistics of the teacher's candidate sets by p; entropy and stored bytes are those of the whole."""
    for row in statistics["sets"]:
        yield row | {name: statistics[name] for name in WHOLE}


FORMS: Forms = {
    "p": "p",
    "states": "states",
    "median size": lambda row: f"{float(row['median_size']):g}",
    "mean size": number("mean_size", 2),
    "singletons": share("singletons"),
    "p_eff": number("p_eff", 3),
    "out of set": share("out_of_set"),
}


def _markdown(view: View) -> list[Part]:
    whole = {name: fixed(view.rows[0][name], digits) for name, digits in WHOLE.items()}
    heading, *_ = view.head()
    return [heading, view.table.caption.format(**whole), columns_of(FORMS, view.rows)]


TABLE = Table(
    order=130,
    title="Candidate sets of the teacher",
    columns=("p", "states", "median_size", "mean_size", "singletons", "p_eff", "out_of_set", *WHOLE),
    keys=("p",),
    rows=lambda study: candidate_rows(study.measured.sets) if study.measured.sets else [],
    evidence=candidate_sets,
    markdown=_markdown,
)
