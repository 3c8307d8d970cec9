"""What of a training outlives a kill: whole states on disk, found sound before one of them is used.

    saved/step-N/      everything that goes on after update N, sealed: engine/, task/, the logs so far, state.json
    checkpoints/step-N/  the public checkpoints, each sealed
    metrics.jsonl ...  the logs as they grow, to look at while a training runs; nothing reads them again
    resume.json        the newest update that was saved

A state is written beside its place, synced and renamed, and the one before it is kept. So whatever a kill leaves, and
whatever byte is changed, cut or lost later, an older state is at hand, or the training starts again from nothing. A
state is sound where its every file, and every checkpoint that it knows, has the sealed bytes, and it lies where it was
saved.
"""

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from distill.checkpoints import CHECKPOINTS, DEV, DEV_ITEMS, METRICS, checkpoint_name
from distill.errors import DataError
from distill.files import (
    MANIFEST,
    digest_file,
    link_or_copy,
    list_files,
    read_json,
    replace_folder,
    seal_folder,
    temporary_beside,
    write_json,
)

_SAVED, _ENGINE, _TASK = "saved", "engine", "task"
_STATE, _POINTER = "state.json", "resume.json"
_LOGS, _SO_FAR = (METRICS, DEV, DEV_ITEMS), ".saved"
_SHARE = 50
"""Saves by the clock take at most one part in so many of the time."""


def _fault_of_folder(folder: Path) -> str | None:
    """Returns what is wrong with a sealed folder, None if every file has the sealed bytes and no other is there."""
    if not folder.is_dir():
        return "is gone"
    try:
        manifest = read_json(folder / MANIFEST)
        sealed = {name: entry["sha256"] for name, entry in manifest.items()}
    except (DataError, AttributeError, KeyError, TypeError):
        return f"has no manifest {MANIFEST} that can be read"
    files = {str(path.relative_to(folder)): path for path in list_files(folder)}
    if missing := sealed.keys() - files.keys():
        return f"lacks {ascii(min(missing))[1:-1]}"
    for name, path in files.items():
        if sealed.get(name) != digest_file(path):
            return f"has other bytes in {name} than were saved"
    return None


def _fault_of_checkpoint(folder: Path, digest: str) -> str | None:
    """As `_fault_of_folder`, of a folder whose manifest has a digest of its own."""
    fault = _fault_of_folder(folder)
    return fault if fault or digest_file(folder / MANIFEST) == digest else "has another manifest than was saved"


@contextmanager
def _system_errors(folder: Path) -> Iterator[None]:
    """Turns what safetensors says of a refusal of the system into the error that it is."""
    try:
        yield
    except SafetensorError as error:
        if not (number := re.search(r"\(os error (\d+)\)", str(error))):
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(folder)) from error


class SavedState:
    """The state folder of one training, which the first of its processes alone reads and writes.

    Args:
        root: the folder.
        name: of the training, for what is said of it.
        minutes: between two saves by the clock; above 0.

    Attributes:
        step: updates behind the state that is gone on from; -1 if there is none.
        resumes: how often the training went on from a saved state.
        listeners: who is told the name and the rows of a log when they are added.
    """

    def __init__(self, root: Path, name: str, minutes: float):
        self.root, self.name, self.step, self.resumes = root, name, -1, 0
        self.listeners: list[Callable[[str, list[dict]], None]] = []
        self._logs, self._checkpoints = {log: bytearray() for log in _LOGS}, dict[str, str]()
        self._interval, self._cost, self._saved_at = 60 * minutes, 0.0, time.monotonic()

    def open(self) -> None:
        """Finds the newest sound state and takes its logs; names what is unsound, and removes it with all newer."""
        faults, sound = self._faults_of_pointer(), None
        for folder in self._states():
            if fault := self._fault_of(folder):
                faults.append(f"the state behind update {_step_of(folder)} {fault}")
                _remove(folder)
            else:
                sound = folder
                break
        if sound:
            state = read_json(sound / _STATE)
            self.step, self.resumes, self._checkpoints = state["step"], state["resumes"] + 1, state["checkpoints"]
            self._logs = {log: bytearray((sound / f"{log}{_SO_FAR}").read_bytes()) for log in _LOGS}
        if faults:
            goes_on = f"training goes on behind update {self.step}" if sound else "training starts again from nothing"
            print(f"note: {self.name}: {'; '.join(faults)}; {goes_on}", file=sys.stderr, flush=True)
        left = [path for path in self._saved.glob("*") if path not in self._states()]
        left += [path for path in (self.root / CHECKPOINTS).glob("*") if path.name not in self._checkpoints]
        for path in left:
            _remove(path)
        for log, content in self._logs.items():
            (self.root / log).write_bytes(content)

    def append(self, log: str, rows: Iterable[dict]) -> None:
        """Adds rows to a log, which is kept whole with the next save."""
        added = [*rows]
        text = "".join(json.dumps(row) + "\n" for row in added).encode()
        self._logs[log] += text
        with open(self.root / log, "ab") as file:
            file.write(text)
        for listen in self.listeners:
            listen(log, added)

    def rows(self, log: str) -> list[dict]:
        """Returns all rows of a log so far."""
        return [json.loads(line) for line in self._logs[log].splitlines()]

    def add_checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
        """Writes and seals the public checkpoint of an update, which counts with the next save."""
        final = self.root / CHECKPOINTS / checkpoint_name(step)
        temporary = temporary_beside(final)
        with _system_errors(final):
            write(temporary)
        seal_folder(temporary)
        replace_folder(temporary, final)
        self._checkpoints[final.name] = digest_file(final / MANIFEST)

    def is_due(self) -> bool:
        """Returns whether it is time for a save by the clock."""
        return time.monotonic() - self._saved_at >= max(self._interval, _SHARE * self._cost)

    @contextmanager
    def saving(self, step: int) -> Iterator[tuple[Path, Path]]:
        """Yields the folders of engine and task to write the state behind an update into; then seals it."""
        began, final = time.monotonic(), self._saved / checkpoint_name(step)
        temporary = temporary_beside(final)
        for old in self._states()[1:]:
            os.replace(old, temporary_beside(old))
            _remove(temporary_beside(old))
        for name in (_ENGINE, _TASK):
            (temporary / name).mkdir(parents=True)
        with _system_errors(final):
            yield temporary / _ENGINE, temporary / _TASK
        for log, content in self._logs.items():
            (temporary / f"{log}{_SO_FAR}").write_bytes(content)
        own = {"of": self.root.name, "step": step, "resumes": self.resumes, "checkpoints": self._checkpoints}
        write_json(temporary / _STATE, own)
        seal_folder(temporary)
        replace_folder(temporary, final)
        write_json(self.root / _POINTER, {"step": step})
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - began

    def folders(self, step: int) -> tuple[Path, Path]:
        """Returns the folders of engine and task that were written behind an update."""
        return self._saved / checkpoint_name(step) / _ENGINE, self._saved / checkpoint_name(step) / _TASK

    def publish(self, output: Path) -> None:
        """Puts checkpoints and logs into a stage's output.

        Raises:
            DataError: a checkpoint is not as it was sealed.
        """
        for name, digest in self._checkpoints.items():
            folder = self.root / CHECKPOINTS / name
            if fault := _fault_of_checkpoint(folder, digest):
                raise DataError(f"{folder}: expected the checkpoint as it was sealed, found that it {fault}; rerun")
            for path in (folder / MANIFEST, *list_files(folder)):
                target = output / CHECKPOINTS / name / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(path, target)
        for log, content in self._logs.items():
            (output / log).write_bytes(content)

    @property
    def _saved(self) -> Path:
        return self.root / _SAVED

    def _states(self) -> list[Path]:
        """Returns the folders of saved states, the newest first."""
        return sorted(filter(_step_of, self._saved.glob("step-*")), key=_step_of, reverse=True)

    def _fault_of(self, folder: Path) -> str | None:
        if fault := _fault_of_folder(folder):
            return fault
        if not (folder / _STATE).is_file():  # another sealed folder, such as a checkpoint
            return "is no saved state"
        state = read_json(folder / _STATE)
        if (state["of"], state["step"]) != (self.root.name, _step_of(folder)):
            return f"is that behind update {state['step']} of {state['of']}"
        for name, digest in state["checkpoints"].items():
            if fault := _fault_of_checkpoint(self.root / CHECKPOINTS / name, digest):
                return f"knows a checkpoint, {name}, that {fault}"
        return None

    def _faults_of_pointer(self) -> list[str]:
        path = self.root / _POINTER
        if not path.exists():
            return []
        try:
            step = read_json(path)["step"]
            is_there = (self._saved / checkpoint_name(step)).exists()
        except (DataError, KeyError, TypeError, ValueError):
            return [f"{_POINTER} cannot be read"]
        return [] if is_there else [f"the state behind update {step} is gone"]


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _step_of(folder: Path) -> int:
    """Returns the update behind which a state was saved, 0 for what is none."""
    number = folder.name.removeprefix("step-")
    return int(number) if number.isdecimal() else 0
