"""The tables for LaTeX: the numbers of the CSV files with the columns and decimals of the report, by `booktabs`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from distill.report.columns import shown_columns
from distill.report.csv_tables import COLUMNS, cell_text

SYSTEMS = ("system", "other", "opponent", "baseline", "against", "run")
"""Columns that name systems."""
_ESCAPED = str.maketrans(
    {char: rf"\{char}" for char in "&%$#_{}"}
    # Behind the end of a row the last two would be read as its arguments.
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "[": "{[}", "*": "{*}"}
)


def escape(text: str) -> str:
    """Returns a text that LaTeX prints as it is; the sign of a negative number is a minus, not a hyphen."""
    if text[:1] == "-" and text[1:2].isdigit():
        return f"${text}$"
    return text.translate(_ESCAPED)


def latex(rows: Sequence[Mapping[str, str]], labels: Mapping[str, str]) -> str:
    """Returns a `tabular`; what all rows share stands in comments above.

    Args:
        rows: of a CSV table as text, one or more.
        labels: what stands for a system's name.
    """
    named = [{name: labels.get(cell, cell) if name in SYSTEMS else cell for name, cell in row.items()} for row in rows]
    columns, shared = shown_columns(named)
    heads = [column["name"].replace("_", " ") for column in columns]
    head, *body = (
        " & ".join(map(escape, cells)) + r" \\"
        for cells in (heads, *zip(*(column["texts"] for column in columns), strict=True))
    )
    places = "".join("r" if column["numeric"] else "l" for column in columns)
    comments = [f"% {column}: {text}" for column, text in shared.items()]
    start = [r"% \usepackage{booktabs}", *comments, rf"\begin{{tabular}}{{{places}}}", r"\toprule", head, r"\midrule"]
    return "\n".join([*start, *body, r"\bottomrule", r"\end{tabular}", ""])


def write_latex(folder: Path, name: str, rows: Sequence[Mapping], labels: Mapping[str, str]) -> None:
    """Writes a table as NAME.tex beside NAME.csv; one without rows is left out."""
    texts = [{column: cell_text(row[column]) for column in COLUMNS[name]} for row in rows]
    if texts:
        (folder / f"{name}.tex").write_text(latex(texts, labels), encoding="utf-8")
