"""Texts of somebody else's in Markdown, and plain tables of texts."""

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

import tabulate

tabulate.MIN_PADDING = 0  # a column is as wide as its widest cell, the head's among them


def as_text(text: str) -> str:
    """Returns a text of somebody else's for Markdown: one line that starts no markup, link, cell or HTML."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return re.sub(r"[\\`*\[\]|!#]", r"\\\g<0>", html.escape(line, quote=False))


def pipe_table(header: Sequence[str], rows: Sequence[Sequence[str]], sides: Sequence[str] = ()) -> str:
    """Returns a Markdown table of cells that are Markdown; `sides` are left or right, a column each."""
    return tabulate.tabulate(rows, header, tablefmt="pipe", disable_numparse=True, colalign=sides or None)


def text_table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Returns a Markdown table, "" without rows; cells from outside have been through `as_text`."""
    rows = [list(map(str, row)) for row in rows]
    if not rows:
        return ""
    # as_text has escaped its own
    cells = [[re.sub(r"(?<!\\)\|", "&#124;", cell) for cell in row] for row in rows]
    return pipe_table([*header], cells)
