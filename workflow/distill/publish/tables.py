"""Publishes the tables of a finished study without the study, with a note of where they are from."""

import re
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from distill.audit.archive import Archive
from distill.audit.committed import NOTE, PAGE, describe_study
from distill.audit.verify import verify
from distill.audit.words import count
from distill.command import Command
from distill.errors import DataError
from distill.files import write_json, write_text
from distill.publish.sealed import check_beside_results
from distill.report.tables import TABLES

REPORT = "report.html"
_LINK = re.compile(r'<a href="([^"#]+)">(.*?)</a>')


def without_dead_links(report: str, folder: Path) -> str:
    """Returns a report in which a link to a file that a folder does not have is its text alone."""
    return _LINK.sub(
        lambda link: link[0] if link[1] == REPORT or (folder / unquote(link[1])).exists() else link[2], report
    )


def publish_tables(results: Path, folder: Path, with_report: bool = False) -> dict[str, Any]:
    """Copies a finished study's tables and page to a folder, with a note of where they are from, which it returns.

    Args:
        results: the study.
        folder: where they go.
        with_report: whether the report goes there, too, with its answers; it then links what is there.

    Raises:
        DistillError: the study has no tables or no root manifest, its files are not those of its records, or the folder
            lies in a study.
    """
    check_beside_results(folder)
    archive = Archive(results)
    for name in ("tables", PAGE, *[REPORT] * with_report):
        if name not in archive.artifacts:
            raise DataError(f"{results / name}: expected an artifact with a record, found none; run the workflow")
    checked = verify(archive, None)
    if checked.digest is None or checked.findings:
        found = f"{checked.findings[0].path} {checked.findings[0].kind}" if checked.findings else "no root manifest"
        raise DataError(f"{results}: expected results that verify, found {found}; run verify to see what is changed")
    tables = folder / "tables"
    for name in TABLES:
        write_text(tables / f"{name}.csv", (results / "tables" / f"{name}.csv").read_text(encoding="utf-8"))
    for old in set(tables.glob("*.csv")) - {tables / f"{name}.csv" for name in TABLES}:
        old.unlink()  # a table that the study no longer has
    write_text(folder / PAGE, (results / PAGE).read_text(encoding="utf-8"))
    if with_report:
        text = (results / REPORT).read_text(encoding="utf-8")
        write_text(folder / REPORT, without_dead_links(text, folder))
    note = describe_study(archive, checked.digest)
    write_json(folder / NOTE, note)
    return note


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("results", type=Path, help="a finished study")
    parser.add_argument("folder", type=Path, help="where its tables go, e.g. docs/studies/NAME")
    parser.add_argument("--report", action="store_true", help="publish the report, too, with the answers that it shows")


def _run(options: Namespace) -> int:
    note = publish_tables(options.results, options.folder, options.report)
    print(f"{options.folder}: {count(len(TABLES), 'table')} of results sha256:{note['results_sha256']}")
    return 0


COMMAND = Command(
    "publish-tables", "copy a study's tables to a folder, with a note of where they are from", _add_arguments, _run
)
