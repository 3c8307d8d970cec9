"""The live display: a line for each finished job; below, which move, those that run and the count of all."""

import logging
import os
import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from snakemake_interface_logger_plugins.common import LogEvent

from distill.errors import one_line
from distill.provenance.failures import is_interrupted

_TAIL = 1 << 16
# As tqdm writes it: 120/600 [00:03<00:12, 39.20update/s, loss 1.2]. Bars of libraries count in `it`.
_BAR = re.compile(r"(\d+)/(\d+) \[[\d:]+<([\d:?]+), +([\d.?]+(?:s/(?!it)\w+|(?!it)[a-z]\w*/s))(?:, ([^\]\r\n]*))?\]")
# What Snakemake says again of jobs that failed, each of which has a line.
_SAID = ("CalledProcessError", "At least one job did not complete successfully")


class Bar(NamedTuple):
    """How far a stage is, in units of its own.

    Attributes:
        done, total: units.
        left: time left, such as 01:30.
        speed: units a second, or seconds a unit, with the unit.
        more: what the stage adds, such as its loss.
    """

    done: int
    total: int
    left: str
    speed: str
    more: str


def find_bar(text: str) -> Bar | None:
    """Returns the last whole progress bar of a stage's log, None where there is none."""
    found = _BAR.findall(text)
    if not found:
        return None
    done, total, left, speed, more = found[-1]
    return Bar(int(done), int(total), left, re.sub(r"([\d.?])([a-z])", r"\1 \2", speed, count=1), more)


def find_words(text: str, rule: str) -> list[str]:
    """Returns what a stage's log says to a person: notes and warnings, and last what it did."""
    lines = re.split(r"[\r\n]+", text)
    own = [line for line in lines if line.startswith(("note: ", "warning: "))]
    done = [line.removeprefix(start) for line in lines if line.startswith(start := f"done: {rule}: ")]
    return [one_line(line) for line in own + done[-1:]]


@dataclass
class _Job:
    """A job that runs, or waits for a node.

    Attributes:
        rule, name: of the rule; of the job with its wildcards.
        log: the stage's own log, None for a rule without one.
        began: seconds since the epoch.
    """

    rule: str
    name: str
    log: Path | None
    began: float = field(default_factory=time.time)
    bar: Bar | None = None

    def text(self) -> str:
        """Returns the end of the log; empty where it cannot be read or is of an earlier try."""
        try:
            with open(self.log or os.devnull, "rb") as file:
                is_old = os.fstat(file.fileno()).st_mtime < self.began - 5  # clocks of other machines differ
                file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
                return "" if is_old else file.read().decode(errors="replace")
        except OSError:
            return ""


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes:02}:{rest:02}"


class _Console(Console):
    """Prints whole what one thread prints: rich moves the cursor up and draws again in two steps."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.turn = threading.RLock()

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints; see rich."""
        with self.turn:
            super().print(*objects, **options)


class Display:
    """Draws on standard error, at most once a second, what Snakemake and the logs of the running stages say.

    Args:
        total: jobs to run.
        nocolor: whether the user wants no colours.
    """

    def __init__(self, total: int, nocolor: bool):
        self._done, self._total, self._began = 0, total, time.time()
        self._jobs: dict[int, _Job] = {}
        self._is_stopping = False
        self._console = _Console(stderr=True, highlight=False, no_color=nocolor or None)
        self._live = Live(get_renderable=self._draw, console=self._console, auto_refresh=False)
        self._ended = threading.Event()
        self._ticks = threading.Thread(target=self._tick, daemon=True)
        with self._console.turn:
            self._live.start()
        self._ticks.start()

    def stop(self) -> None:
        """Draws the last state and leaves the terminal as it was."""
        self._ended.set()
        self._ticks.join()
        self._jobs.clear()
        with self._console.turn:
            self._live.stop()

    def _tick(self) -> None:
        while not self._ended.wait(1):
            for job in list(self._jobs.values()):
                job.bar = find_bar(job.text())
            with self._console.turn:
                self._live.refresh()

    def show(self, record: Any) -> None:
        """Takes in what happened."""
        with self._console.turn:
            self._take(record)
            self._live.refresh()

    def _take(self, record: Any) -> None:
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO:
            self._start(record)
        elif event == LogEvent.JOB_FINISHED:
            self._finish(record)
        elif event == LogEvent.JOB_ERROR:
            self._fail(record)
        elif event == LogEvent.PROGRESS:
            self._done, self._total = record.done, record.total
        elif event == LogEvent.ERROR:
            if not any(said in record.getMessage() for said in _SAID):
                self._print(record.getMessage(), "red")
        elif record.levelno >= logging.WARNING:
            self._print(record.getMessage(), "yellow")
        elif event is None and record.msg and not record.getMessage().startswith("Select jobs"):
            self._is_stopping |= record.getMessage().startswith("Terminating")
            self._print(record.getMessage(), "dim")

    def _start(self, record: Any) -> None:
        name = " ".join([record.rule_name, *map(str, record.wildcards.values())])
        self._jobs[record.jobid] = _Job(record.rule_name, name, Path(record.log[0]) if record.log else None)

    def _finish(self, record: Any) -> None:
        if job := self._jobs.pop(record.job_id, None):
            *notes, done = find_words(job.text(), job.rule) or [""]
            for note in notes:
                self._print(f"  {note}", "yellow")
            took = _clock(time.time() - job.began)
            line = Text.assemble(("✓", "green"), f" {job.name} ", (took, "cyan"), f" {done}")
            self._console.print(line, no_wrap=True, overflow="ellipsis")

    def _fail(self, record: Any) -> None:
        job = self._jobs.pop(record.jobid, None)
        log = f" (log: {', '.join(record.log)})" if record.log else ""
        is_stopped = self._is_stopping or (job and is_interrupted(job.text()))
        mark, style = ("■", "yellow") if is_stopped else ("✗", "red")
        self._print(f"{mark} {job.name if job else record.rule_name}{log}", style)

    def _print(self, text: str, style: str) -> None:
        self._console.print(Text(text.strip("\n"), style), soft_wrap=True)

    def _draw(self) -> RenderableType:
        table = Table.grid(padding=(0, 2, 0, 0))
        for is_long in (False, False, False, True, False):
            table.add_column(no_wrap=not is_long)  # where room is short, the one that may wrap gives way
        for job in list(self._jobs.values()):
            if bar := job.bar:
                count, left = f"{bar.done:,}/{bar.total:,}", f"{bar.left} left"
                words = Text(", ".join(filter(None, (bar.speed, bar.more))), no_wrap=True, overflow="ellipsis")
                table.add_row(job.name, ProgressBar(bar.total, bar.done, width=16), count, words, left)
            else:
                table.add_row(job.name, "", "", "", _clock(time.time() - job.began))
        done = Text(f"{self._done} of {self._total} jobs done", "bold")
        bar_of_all = ProgressBar(self._total, self._done, width=16)
        table.add_row(done, bar_of_all, "", "", _clock(time.time() - self._began))
        return table
