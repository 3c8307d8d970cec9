"""The tables of a study: each file of this folder is one, and its `TABLE` says all that there is to say of it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import import_module
from pkgutil import iter_modules

from distill.config.slices.make_tables import MakeTables
from distill.report.measured import Measured, Study
from distill.report.table import Table, paragraphs


def _load(name: str) -> Table:
    module = import_module(f"{__name__}.{name}")
    return replace(module.TABLE, caption=paragraphs(module.__doc__ or "")[0])


_FOUND = {module.name: _load(module.name) for module in iter_modules(__path__)}
TABLES: dict[str, Table] = dict(sorted(_FOUND.items(), key=lambda item: item[1].order))
"""By name, in the order of the pages; a table `name` is the file `name.csv`."""


def table_rows(measured: Measured, settings: MakeTables) -> dict[str, Iterable[Mapping]]:
    """Returns the rows of every table by its name, most of them computed as they are taken.

    Raises:
        DataError: a system has no scores of a set in a decoding.
    """
    study = Study(measured, settings)
    return {name: table.rows(study) for name, table in TABLES.items()}
