"""Finds in Snakemake's log and in those of the rules why a workflow stopped."""

import errno
import re
import shlex
import signal
from pathlib import Path

from distill.errors import one_line
from distill.files import explain_os_error, is_full
from distill.stopping import Stopped

PREFIX = "error: "
STOPPED = "Stopped. The same command goes on."
_CANCELLED = "Terminating processes on user request"
_INTERRUPTED = f": {Stopped(signal.SIGINT)}"
_FAILED = re.compile(
    r"^Error in rule (\w+):\n(?:(?!Error in rule ).*\n)*?    log: (.*?) \(check log file", re.MULTILINE
)
# Of a job that Slurm did not take, whose log is none or that of an earlier one.
_REFUSED = re.compile(
    r"^Error in rule (\w+):\n    message: SLURM sbatch failed\. The error message was '(.*)'\.$", re.MULTILINE
)
# What Snakemake says of a fault that is no job's own: of a rule's functions, of outputs that are missing.
_FOREIGN = re.compile(r'^(\w+) in rule (\w+) in file "[^\n]*", line \d+:\n(?:Error:\n)?([^\n]+)', re.MULTILINE)
_EXCEPTION = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\b")
_STATUS = re.compile(r"> (\S+|'[^\n]*?') 2>&1' (?:returned non-zero exit status (\d+)|died with <Signals\.\w+: (\d+)>)")
_LONGEST = 300


def _statuses(log: str) -> dict[str, int]:
    """Returns the exit status of each failed job by its log file; above 128 it is 128 + the signal that ended it."""
    found = {}
    for path, status, number in _STATUS.findall(log):
        (name,) = shlex.split(path)[:1] or [path]
        found[name] = int(status) if status else 128 + int(number)
    return found


def _killed(number: int) -> str:
    if number != signal.SIGKILL:
        return f"killed by signal {number}; run the same command again"
    return (
        "killed, as the kernel does where memory runs out; give the job more memory or make its batch smaller, and run "
        "the same command again"
    )


def _describe(rule: str, log: Path, status: int | None) -> str:
    """Returns the line of a failed job: its own, or what is known where it could write none."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    # Of several processes the first to fail says why; what follows is that it is gone.
    own = next((line for line in lines if line.startswith(f"{PREFIX}{rule}: ")), None)
    if own is None:
        # What libraries say behind an exception is not the reason.
        last = next((line for line in reversed(lines) if _EXCEPTION.match(line)), lines[-1] if lines else "none")
        words = one_line(last)[:_LONGEST]
        ended = f" and exit status {status}" if status is not None else ""
        why = f"expected a line that says why it failed, found {words}{ended}; see its log"
        if not lines and log.is_file() and is_full(log.parent):  # it could not write its line
            why = str(explain_os_error(errno.ENOSPC, log))
        elif status is not None and status > 128:
            why = f"expected to end by itself, found it {_killed(status - 128)}"
        elif "SIGKILL" in text:  # torchrun saw one of its processes end so
            why = f"expected to end by itself, found one of its processes {_killed(signal.SIGKILL)}"
        elif status == 127:
            why = "expected the interpreter that `environments` names, found none; make it or correct `environments`"
        own = f"{PREFIX}{rule}: {why}"
    return f"{one_line(own)} (log: {one_line(str(log))})"


def is_interrupted(text: str) -> bool:
    """Returns whether a stage says in its log that Ctrl-C stopped it, of which Snakemake may not know."""
    return _INTERRUPTED in text


def last_errors(log: str, place: str) -> list[str]:
    """Returns a line for each job that failed, and the one that says that the user stopped the run.

    Args:
        log: what Snakemake logged.
        place: where it lies; named for errors that are in no job's own log.
    """
    if _CANCELLED in log:
        return [STOPPED]
    statuses, refused = _statuses(log), dict(_REFUSED.findall(log))
    failed = {path.split(", ")[0]: rule for rule, path in _FAILED.findall(log)}
    found = [
        f"{PREFIX}{rule}: expected Slurm to take its job, found {one_line(refused[rule])}; see docs/cluster.md"
        if rule in refused
        else _describe(rule, Path(path), statuses.get(path))
        for path, rule in failed.items()
    ]
    foreign = {rule: f"{error}: {one_line(words)[:_LONGEST]}" for error, rule, words in _FOREIGN.findall(log)}
    others = foreign.keys() - {*failed.values()}
    found += [f"{PREFIX}{rule}: {foreign[rule]} (log: {place})" for rule in sorted(others)]
    failed_alone = [line for line in found if not is_interrupted(line)]
    return failed_alone + [STOPPED] * (len(failed_alone) < len(found))
