"""The columns of a table that people are shown, in the report and in LaTeX."""

from collections.abc import Mapping, Sequence
from typing import Any

from distill.evaluation.p_values import bound
from distill.report.markdown import is_number, rounded


def shown_columns(rows: Sequence[Mapping[str, str]]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Returns the columns that are shown, and the values that all rows share by their columns.

    Columns without any value are left out, of several rows also those with one value, which is named once; both ends of
    an interval are one column.

    Args:
        rows: of a CSV table, one or more.

    Returns:
        Columns as {name, numeric, texts}, with the unrounded `cells`; and the shared values.
    """
    columns: list[dict[str, Any]] = []
    shared: dict[str, str] = {}
    for column in rows[0]:
        cells = [row[column] for row in rows]
        if not {*cells} - {"", "n/a"}:
            continue
        texts = rounded(cells)
        if column in ("p_value", "p_adjusted"):
            tests = [int(row["tests"]) if column == "p_adjusted" else 1 for row in rows]
            bounds = (bound(float(cell), count) for cell, count in zip(cells, tests, strict=True))
            texts = [least or text for least, text in zip(bounds, texts, strict=True)]
        if column.endswith("hi") and columns and columns[-1]["name"] == f"{column[:-2]}lo":
            ends = zip(columns[-1]["texts"], texts, strict=True)
            columns[-1] |= {
                "name": f"{column[:-2]}interval",
                "texts": [f"[{lo}, {hi}]" if lo else "" for lo, hi in ends],
            }
        elif len(rows) > 1 and len({*cells}) == 1 and columns and not column.endswith("lo"):
            shared[column] = min(cells[0], texts[0], key=len)
        else:
            is_numeric = all(map(is_number, filter(None, cells)))
            columns.append({"name": column, "numeric": is_numeric, "texts": texts, "cells": cells})
    return columns, shared
