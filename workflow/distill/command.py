"""What a sub-command of `python -m distill` is, and the options that several share."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distill.errors import shown


def say(*lines: str) -> None:
    """Prints lines; what they quote of files that somebody else made cannot steer the terminal."""
    for line in lines:
        print(shown(line))


@dataclass(frozen=True)
class Command:
    """A sub-command.

    Attributes:
        name: the word on the command line.
        help: one line for the list of sub-commands.
        add_arguments: adds its options to its parser.
        run: does the work; prints, and returns the exit code: 0 clean, 1 findings. A DistillError ends with 2.
    """

    name: str
    help: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int]


def add_results(parser: ArgumentParser) -> None:
    """Adds `--results`, the folder to audit."""
    parser.add_argument("--results", type=Path, default=Path("results"), help="the results folder (default: results)")
