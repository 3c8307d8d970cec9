"""`python -m distill release`: makes places of a results folder free whose owner has ended."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from distill.command import Command, say
from distill.errors import DataError
from distill.provenance.ownership import OWNERS, current_owner, lives, release


def _places(path: Path) -> list[Path]:
    """Returns the owned places of a results folder, of its state folder, or the one that is named."""
    for root in (path / ".state" / OWNERS, path / OWNERS, path if path.name == OWNERS else path / "none"):
        if root.is_dir():
            return sorted(root.iterdir())
    if path.parent.name == OWNERS and path.is_dir():
        return [path]
    raise DataError(f"{path}: expected a results folder or a place that an error named, found none; correct the path")


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="PATH", help="the place that an error named, or a results folder")


def _run(options: Namespace) -> int:
    """Prints a line for each owned place; those of processes that are seen alive stay."""
    kept = 0
    for place in _places(options.path):
        owner = current_owner(place)
        if owner is None:
            continue
        if lives(owner):
            kept += 1
            say(f"{place}: kept: {owner} lives and makes {owner.work}; end it first")
        else:
            release(place)
            say(f"{place}: released: {owner} made {owner.work}")
    return 1 if kept else 0


COMMAND = Command("release", "free the work of a process that ended on another machine", _add_arguments, _run)
