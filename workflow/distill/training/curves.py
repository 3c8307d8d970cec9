"""Curves of a training while it runs: TensorBoard's event files, and a tracker of the user's own.

They are for eyes alone. Nothing reads them again, no key and no seal knows them, and what goes wrong with them ends no
training. Each start hands over all that was logged before and still counts, then each row as it is logged: an event
file takes the place of the one before, a tracker gets a run of its own. So each holds the log's steps once, whatever a
kill left.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, Self

from distill.checkpoints import DEV, METRICS
from distill.files import CURVES
from distill.training.saved_state import SavedState

_PREFIX = {METRICS: "", DEV: "dev/"}
_FLUSH_S = 5
"""How long a value may wait before it is in the file."""


class _Viewer(Protocol):
    """What shows curves."""

    def log(self, values: dict[str, float], step: int, at: float) -> None:
        """Takes the values of an update, and when it ended, in seconds since the epoch."""

    def finish(self) -> None:
        """Keeps what it has."""


class _EventFile:
    """An event file of TensorBoard, in the place of those that a folder holds."""

    def __init__(self, folder: Path):
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._file = EventFileWriter(str(folder), flush_secs=_FLUSH_S)
        # A viewer that is open drops what it has read of the file before.
        self._file.add_event(Event(wall_time=time.time(), session_log=SessionLog(status=SessionLog.START)))

    def log(self, values: dict[str, float], step: int, at: float) -> None:
        found = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._file.add_event(self._event(wall_time=at, step=step, summary=self._summary(value=found)))

    def finish(self) -> None:
        self._file.close()


class _Run:
    """A run of trackio or wandb, kept on this machine unless the user's variables for them say otherwise."""

    def __init__(self, package: str, project: str, name: str, options: dict[str, Any], folder: Path):
        own = {"project": project, "name": name, "config": options}
        if package == "wandb":
            import wandb

            own |= {"mode": os.environ.get("WANDB_MODE", "offline"), "dir": os.environ.get("WANDB_DIR", str(folder))}
            # Neither what the stage prints nor the address of the repository, which may hold a password.
            settings = wandb.Settings(console="off", silent=True, disable_git=True)
            self._run = wandb.init(**own, settings=settings)
        else:
            import trackio

            self._run = trackio.init(**own)

    def log(self, values: dict[str, float], step: int, at: float) -> None:
        self._run.log(values, step=step)

    def finish(self) -> None:
        self._run.finish()


class Curves:
    """Shows what a training logs, from its first row on, as long as the block runs that this is the context of.

    Args:
        saved: the training's logs; their folder lies in `.state` of the study, the event file in its `curves/NAME`.
        tracker: package and project of the user's tracker, if there is one.
        options: what the tracker is told of the training.
    """

    def __init__(self, saved: SavedState, tracker: tuple[str, str] | None, options: dict[str, Any]):
        self._saved, self._tracker, self._options = saved, tracker, options
        self._viewers: dict[str, _Viewer] = {}

    def __enter__(self) -> Self:
        name, folder = self._saved.name, self._saved.root.parents[1] / CURVES / self._saved.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._viewers["TensorBoard"] = _EventFile(folder)
        except ImportError:
            print("no event files for TensorBoard, whose package is not installed", file=sys.stderr, flush=True)
        except Exception as error:  # of the disk, or of packages that do not fit together
            self._leave("TensorBoard", error)
        if self._tracker:
            package, project = self._tracker
            try:
                self._viewers[package] = _Run(package, project, name, self._options, folder)
            except Exception as error:
                self._leave(package, error)
        logged = [(log, row) for log in _PREFIX for row in self._saved.rows(log)]
        logged.sort(key=lambda entry: entry[1]["step"])  # trackers take no step behind a later one
        # As if without pauses, since the log has no times but those that updates took.
        at = time.time() - sum(row.get("seconds", 0.0) for _, row in logged)
        for log, row in logged:
            at += row.get("seconds", 0.0)
            self._show(log, row, at)
        self._saved.listeners.append(self._take)
        return self

    def __exit__(self, *error: object) -> None:
        self._saved.listeners.remove(self._take)
        self._each(lambda viewer: viewer.finish())

    def _take(self, log: str, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            self._show(log, row, time.time())

    def _show(self, log: str, row: dict[str, Any], at: float) -> None:
        if log in _PREFIX:
            values = {f"{_PREFIX[log]}{name}": value for name, value in row.items() if name != "step"}
            self._each(lambda viewer: viewer.log(values, row["step"], at))

    def _each(self, act: Callable[[_Viewer], None]) -> None:
        for name, viewer in [*self._viewers.items()]:
            try:
                act(viewer)
            except Exception as error:
                del self._viewers[name]
                self._leave(name, error)

    def _leave(self, name: str, error: Exception) -> None:
        """Says that a viewer shows no more; not what it says, which may hold an address with a key."""
        print(
            f"warning: {self._saved.name}: {name} shows no curves ({type(error).__name__}); the training goes on "
            f"without it, and {METRICS} has them",
            file=sys.stderr,
            flush=True,
        )
