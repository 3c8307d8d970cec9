"""Inspects, publishes and asks results, and writes the config: python -m distill SUB-COMMAND, from the repository."""

import argparse
import signal
import sys
from pathlib import Path

from distill.audit import diff, graph, manifest, plan, questions, release, show, trace, verify
from distill.errors import DistillError
from distill.files import fixable_os_errors
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


def main(arguments: list[str] | None = None) -> int:
    """Runs a sub-command; returns 0 if all is well, 1 for findings, 2 for a wrong use."""
    parser = argparse.ArgumentParser(prog="python -m distill", description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar="SUB-COMMAND")
    for command in COMMANDS:
        subparser = subparsers.add_parser(command.name, help=command.help, description=command.help)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    options = parser.parse_args(arguments)
    try:
        with fixable_os_errors(Path.cwd()):
            return options.run(options)
    except DistillError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:  # such as those of models, which an environment for audits lacks
        if str(error.name).startswith("distill"):
            raise
        print(
            f"error: {sys.executable}: expected an environment with {error.name}, found another; run `make env` and "
            "give the same command to .venv/bin/python",
            file=sys.stderr,
        )
        return 2


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # ends quietly where `head` has read enough
    sys.exit(main())
