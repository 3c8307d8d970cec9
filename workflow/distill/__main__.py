"""Inspects, publishes and asks results, and writes the config: python -m distill SUB-COMMAND, from the repository."""

import argparse
import atexit
import io
import os
import signal
import sys
import traceback
from pathlib import Path

from distill.audit import diff, graph, manifest, plan, questions, release, show, trace, verify
from distill.errors import one_line
from distill.files import FULL
from distill.provenance.faults import explain
from distill.provenance.stage import end_words
from distill.publish import export, gguf_file, push, signing, tables
from distill.sampling import ask
from distill.study import document

COMMANDS = (
    *(
        module.COMMAND
        for module in (verify, show, trace, diff, questions, graph, manifest, plan, release, export, tables)
    ),
    signing.SIGN,
    signing.VERIFY,
    document.COMMAND,
    ask.CHAT,
    ask.ASK,
    push.COMMAND,
    gguf_file.COMMAND,
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m distill", description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar="SUB-COMMAND")
    for command in COMMANDS:
        subparser = subparsers.add_parser(command.name, help=command.help, description=command.help)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs a sub-command.

    Returns:
        0 if all is well, 1 for findings and for a fault of ours, 2 for a wrong use, 130 for Ctrl-C, 141 where nobody
        reads what is told any more.
    """
    try:
        try:
            options = _parser().parse_args(arguments)
            return options.run(options)
        finally:
            if sys.stdout:  # None where it was closed
                sys.stdout.flush()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # `head` has read enough
        return 128 + signal.SIGPIPE
    except Exception as error:
        message, code = _explain(error)
        if code == 1:
            traceback.print_exception(error)
        print(f"error: {message}", file=sys.stderr)
        return code


def _explain(error: Exception) -> tuple[str, int]:
    """Returns how a sub-command ends: the line, and the exit code."""
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("distill"):
        return (  # such as those of models, which an environment for audits lacks
            f"{sys.executable}: expected an environment with {error.name}, found another; run `make env` and give the "
            "same command to .venv/bin/python"
        ), 2
    is_told = isinstance(error, OSError) and error.errno in FULL  # where a file is written, its name is known
    ended = explain(error, Path(os.path.realpath("/proc/self/fd/1")) if is_told else Path())
    if ended.code == 1 and isinstance(error, OSError) and error.filename:  # of a place that the user named
        found = f"expected a file or folder that can be used, found {error.strerror}; correct the path"
        return one_line(f"{error.filename}: {found}"), 2
    return ended


if __name__ == "__main__":
    atexit.register(end_words)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # what is half written is removed
    # Prompts, names and answers in whatever alphabet.
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    sys.exit(main())
