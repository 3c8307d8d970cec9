"""Runs one stage: parses its command line, checks and digests its inputs, publishes its output whole, and records it.

Every script under workflow/scripts is a function and one call of `run_stage`.
"""

import argparse
import atexit
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from distill.config.base import Section
from distill.errors import ConfigError, DataError, one_line
from distill.files import (
    MANIFEST,
    digest_file,
    digest_value,
    list_files,
    read_manifest,
    remove_left_overs,
    remove_left_overs_in,
    replace_folder,
    seal_folder,
    temporary_beside,
    write_json,
)
from distill.meeting import leave_other_groups
from distill.pieces import ALONE, Share
from distill.provenance.faults import explain
from distill.provenance.ownership import Owned, forget, has_begun, own
from distill.provenance.receipts import RECEIPTS, Receipt
from distill.provenance.record import artifact_digest, cpu_seconds, now, record_path, write_record
from distill.provenance.settings import read_argument
from distill.provenance.store import Shared, Wanted
from distill.sealed_files import read_sealed_json, write_sealed_json
from distill.startup import startup_seconds
from distill.stopping import deferred, watched

_POLL_S = 0.1


class _NothingLeft(Exception):
    """The first process of this job has ended its work without this one."""


@dataclass
class Job:
    """What a stage function works with.

    Attributes:
        rule: name of the rule.
        settings: the config slice, as the section model that the script named.
        inputs: each input's name with its paths (files, or folders that were sealed).
        output: temporary place to write to: a folder that exists, or a file's path; published when the stage returns.
        save_every_minutes: how often a stage that can do so at any time saves its state; no part of any key.
        keep_checkpoints: what stays once a run's model is chosen, as in the config; no part of any key.
        tracker: package and project of what shows the curves of a training beside TensorBoard; no part of any key.
        notes: facts for the record.
        share: this process among those of the job; the first, 0, owns, publishes and records.
        place: name of the place that the first process of the job owns while it works.
        resumed: whether a state folder held work of an earlier try or run.
        owned: the places that this process owns until the stage ends.
        afterwards: what is done once the output is published and recorded, such as removing what it makes needless.
        spent: state folders to remove once the output is published; until then a kill must not cost their work.
    """

    rule: str
    settings: Any
    inputs: dict[str, list[Path]]
    output: Path
    code: str
    lock: str
    state_root: Path
    save_every_minutes: float
    keep_checkpoints: str = "all"
    tracker: tuple[str, str] | None = None
    share: Share = ALONE
    place: str = ""
    digests: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    resumed: bool = False
    owned: dict[str, Owned] = field(default_factory=dict)
    afterwards: list[Callable[[], None]] = field(default_factory=list)
    spent: list[Path] = field(default_factory=list)

    def input(self, name: str) -> Path:
        """Returns the one path of an input."""
        (path,) = self.inputs[name]
        return path

    def optional_input(self, name: str) -> Path | None:
        """Returns the path of an input that the rule may leave out."""
        return self.input(name) if self.inputs[name] else None

    def digest(self, name: str) -> list[str]:
        """Returns the sha256 of each path of an input, taken before the step."""
        return [self.digests[str(path)]["sha256"] for path in self.inputs[name]]

    def state(self, **key: Any) -> Path:
        """Returns the folder for work in progress that belongs to `key`, this code and this environment.

        Snakemake deletes declared outputs before each try; what must outlive a kill lies here. Everything that may not
        change under a resumed stage must be in `key`. A living process that has the folder is waited for.
        """
        return self._folder(_place(rule=self.rule, code=self.code, lock=self.lock, **key))

    def kept(self, **key: Any) -> Path:
        """Returns a folder as `state` does, of `key` alone: for what was paid for and no code of ours decided."""
        return self._folder(_place(rule=self.rule, **key))

    def _folder(self, name: str) -> Path:
        folder = self.state_root / name
        if self.share.rank:
            self._wait_for_first(name)
        elif name not in self.owned:
            self.owned[name] = own(self.state_root, name, f"a part of {self.rule}")
            remove_left_overs_in(folder)
            folder.mkdir(parents=True, exist_ok=True)
            self.resumed |= any(folder.iterdir())
            self.owned[name].begin()
        return folder

    def _wait_for_first(self, name: str) -> None:
        """Waits in a further process of a job until the first one owns a place, and has removed what a kill left."""
        while not has_begun(self.state_root, name):
            if not has_begun(self.state_root, self.place):
                raise _NothingLeft
            time.sleep(_POLL_S)


def _place(**key: Any) -> str:
    """Returns the name of a place below the state folder that belongs to a key."""
    return f"{key['rule']}-{digest_value(key)[:32]}"


def _parse(arguments: list[str] | None, doc: str, inputs: tuple[str, ...]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in inputs:
        parser.add_argument(f"--{name.replace('_', '-')}", nargs="*", default=[], metavar="PATH", help=f"input: {name}")
    parser.add_argument("--settings", default="{}", help="the rule's slice of the config: JSON, or @FILE")
    parser.add_argument("--output", type=Path, required=True, help="a file, or a folder's COMPLETE manifest")
    parser.add_argument("--state", type=Path, required=True, help="folder for work in progress")
    parser.add_argument("--save-every-minutes", type=float, default=1.0, help="how often work in progress is saved")
    parser.add_argument("--keep-checkpoints", default="all", help="what stays once a model is chosen: all or selected")
    parser.add_argument("--tracker", nargs=2, metavar=("PACKAGE", "PROJECT"), help="what shows curves of trainings")
    parser.add_argument("--store", default="", help="a folder or s3://BUCKET/PREFIX of finished artifacts to share")
    parser.add_argument("--code", default="unknown", help="digest of the stage's code")
    parser.add_argument("--lock", default="unknown", help="digest of the environment's lock")
    return parser.parse_args(arguments)


def _artifact(path: str | Path) -> Path:
    """A sealed folder is named on command lines by its manifest."""
    path = Path(path)
    return path.parent if path.name == MANIFEST else path


def _is_unsealed(path: Path, external: bool) -> bool:
    return external and path.is_dir() and not (path / MANIFEST).is_file()


def _folder_of(files: list[Path]) -> list[Path]:
    """A folder from outside is named on command lines by all its files, so that Snakemake watches each of them."""
    return [Path(os.path.commonpath(files))] if len(files) > 1 else files


def _check_input(path: Path, external: bool) -> dict[str, Any]:
    """Returns an input's sha256, and those of its files where nobody sealed them."""
    if not path.exists():
        raise DataError(f"{path}: expected an input, found none; check the path in the config or rerun its rule")
    if _is_unsealed(path, external):
        files = {str(file.relative_to(path)): digest_file(file) for file in list_files(path)}
        return {"sha256": digest_value(files), "files": files}
    if path.is_dir():
        for name, entry in read_manifest(path).items():
            if digest_file(path / name) != entry["sha256"]:
                raise DataError(
                    f"{path / name}: expected the bytes sealed in {path / MANIFEST}, found others; "
                    f"delete {path / MANIFEST} and rerun to make the folder again"
                )
    return {"sha256": artifact_digest(path)}


def _signature(path: Path, external: bool) -> list[tuple[int, int]]:
    if path.is_file():
        files = [path]
    elif _is_unsealed(path, external):
        files = list_files(path)
    else:
        files = [path / name for name in (MANIFEST, *read_manifest(path))]
    return [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _is_changed(path: Path, digest: str, before: list[tuple[int, int]], after: list[tuple[int, int]]) -> bool:
    """Returns whether an input is another one than its signature before tells.

    Snakemake touches the manifests of what it finds made, also where another clone's stage reads them.
    """
    if (path / MANIFEST).is_file():
        return after[1:] != before[1:] or digest_file(path / MANIFEST) != digest
    return after != before


def _keep_order(output: Path, final: Path, inputs: dict[str, list[tuple[int, int]]]) -> None:
    """Makes output and record no older than an input: of a clock that runs behind Snakemake would refuse them."""
    newest = max((changed for files in inputs.values() for _, changed in files), default=0)
    for path in (output, record_path(final)):
        if path.stat().st_mtime_ns < newest:
            os.utime(path, ns=(newest, newest))


def _count_tries(folder: Path) -> int:
    """Returns how often a stage was started; a count that a full disk or a power cut damaged begins again."""
    tries = 1 + (read_sealed_json(folder / "tries") or 0)
    write_sealed_json(folder / "tries", tries)
    return tries


def _resolve(artifact: Path) -> Path:
    """Returns where an artifact's bytes lie; its folder may be a link to another disk."""
    place = Path(os.path.realpath(artifact)) if artifact.is_symlink() else artifact
    if artifact.is_symlink() and not place.parent.is_dir():
        raise DataError(f"{artifact}: expected a link to a place that is there, found {place}; make its folder")
    return place


def _wanted(job: Job, given: str, final: Path, is_folder: bool) -> Wanted:
    """Returns what a stage makes, as a store names it."""
    results = job.state_root.parent

    def named(path: str | Path) -> str:
        absolute = Path(os.path.abspath(path))
        inside = absolute.is_relative_to(root := os.path.abspath(results))
        return str(absolute.relative_to(root)) if inside else absolute.name

    inputs = [(entry["name"], named(path), entry["sha256"]) for path, entry in job.digests.items()]
    settings = job.settings.model_dump(mode="json")
    return Wanted(named(final), is_folder, job.rule, job.code, job.lock, settings, given, inputs)


def _publish(temporary: Path, place: Path, is_folder: bool) -> None:
    """Puts a finished artifact in its place."""
    if is_folder:
        replace_folder(temporary, place)
    else:
        os.replace(temporary, place)


def _facts(notes: dict[str, Any]) -> Iterator[str]:
    """Yields a record's notes as words, those of nested mappings behind the names above them."""
    for name, value in notes.items():
        words = name.replace("_", " ")
        if isinstance(value, dict):
            yield from (f"{words} {fact}" for fact in _facts(value))
        elif value is not None:
            yield f"{words} {', '.join(map(str, value)) if isinstance(value, list | tuple) else value}"


def _made(job: Job, seconds: float) -> str:
    """Returns in words how a stage made its output."""
    resumed = ", going on from an earlier start" if job.resumed else ""
    facts = one_line("; ".join(_facts(job.notes)))
    return f"made in {seconds:.1f} s{resumed}" + (f"; {facts}" if facts else "")


def end_words() -> None:
    """Keeps out of the log what libraries say of each other while the interpreter takes itself down."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    with open(os.devnull, "wb") as nowhere:
        for descriptor in (1, 2):  # what could not be flushed would change the exit code
            os.dup2(nowhere.fileno(), descriptor)


def _begin(root: Path, name: str, receipt: Receipt) -> bool:
    """Waits in a further process of a job until the first one works; False where it found the work done."""
    while not (begun := has_begun(root, name)):
        if begun is None and receipt.holds():
            return False
        time.sleep(_POLL_S)
    return True


def _run(
    work: Callable[[Job], None],
    rule: str,
    options: argparse.Namespace,
    settings: type[Section],
    inputs: tuple[str, ...],
    external: tuple[str, ...],
    beside: Callable[[Path, Any], None],
) -> str | None:
    """Runs the stage; returns in words what this process did, None where another one of its job says so."""
    started, before_work, began = now(), time.process_time(), time.monotonic()
    given = read_argument(options.settings)
    try:
        slice_ = settings.model_validate_json(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the whole text"
        raise ConfigError(
            f"--settings: expected the slice {settings.__name__} as JSON, found a problem at {key}: {first['msg']}; "
            "copy the command line from the log or the record"
        ) from error
    final = _artifact(options.output)
    is_folder = options.output.name == MANIFEST
    paths = {name: [_artifact(path) for path in getattr(options, name)] for name in inputs}
    paths |= {name: _folder_of(paths[name]) for name in external}
    begun = cpu_seconds()
    digests = {
        str(path): {"name": name, **_check_input(path, name in external)}
        for name, group in paths.items()
        for path in group
    }
    checking = cpu_seconds() - begun

    def signatures() -> dict[str, list[tuple[int, int]]]:
        return {path: _signature(Path(path), entry["name"] in external) for path, entry in digests.items()}

    before = signatures()
    place = _resolve(final)
    temporary = temporary_beside(place)
    rank = int(os.environ.get("RANK", "0"))
    share = Share(rank, int(os.environ.get("WORLD_SIZE", "1")))
    kept = options.state, options.save_every_minutes, options.keep_checkpoints, options.tracker
    name = _place(rule=rule, output=os.path.relpath(final, options.state))
    job = Job(rule, slice_, paths, temporary, options.code, options.lock, *kept, share, name, digests)
    # Tries count apart from the stage's own state, which may be there or not.
    whole = {"code": job.code, "lock": job.lock, "settings": given, "inputs": digests, "output": str(final)}
    counted = job.state_root / _place(rule=rule, **whole)
    receipt = Receipt(job.state_root / RECEIPTS / f"{name}.json", final, counted.name)
    tries = 0
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if rank == 0:
            job.owned[name] = own(job.state_root, name, str(final))
            for path in (place, record_path(final)):
                remove_left_overs(path)
            tries = _count_tries(counted)
            if is_folder and receipt.accept(tries):
                beside(place, slice_)
                _keep_order(options.output, final, before)
                return "found whole, as an earlier start made it"
            shared = Shared(options.store, _wanted(job, given, final, is_folder))
            if record := shared.fetch(temporary):
                with deferred():
                    _publish(temporary, place, is_folder)
                    beside(place, slice_)
                    write_json(record_path(final), record)
                    _keep_order(options.output, final, before)
                    if is_folder:
                        receipt.write([])
                return "taken from the store"
            job.owned[name].begin()
        elif not _begin(job.state_root, name, receipt):
            return None
        if is_folder:
            temporary.mkdir()
        with suppress(_NothingLeft):
            work(job)
        if rank:
            return None
        begun = cpu_seconds()
        after = signatures()
        changed = [
            path for path in after if _is_changed(Path(path), digests[path]["sha256"], before[path], after[path])
        ]
        if changed:
            raise DataError(f"{changed[0]}: expected an unchanged input, found it changed while {rule} ran; rerun")
        with deferred():
            if is_folder:
                seal_folder(temporary)
            _publish(temporary, place, is_folder)
            beside(place, slice_)
            checking += cpu_seconds() - begun
            write_record(
                final,
                results=options.state.parent,
                rule=rule,
                command=[sys.orig_argv[0], *sys.argv],
                settings=slice_.model_dump(mode="json"),
                code=options.code,
                lock=options.lock,
                inputs=digests,
                started=started,
                startup=before_work + startup_seconds(),
                checking=checking,
                tries=tries,
                resumed=job.resumed,
                notes=job.notes,
            )
            for act in job.afterwards:
                act()
            _keep_order(options.output, final, before)
            if is_folder:
                receipt.write(job.spent)
            for folder in job.spent:
                shutil.rmtree(folder)
                forget(job.state_root, folder.name)
        shared.push(final, temporary)
        return _made(job, time.monotonic() - began)
    finally:
        for owned in job.owned.values():
            owned.release()
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        elif temporary.exists():
            temporary.unlink()


def run_stage(
    work: Callable[[Job], None],
    doc: str,
    *,
    inputs: tuple[str, ...],
    settings: type[Section],
    external: tuple[str, ...] = (),
    beside: Callable[[Path, Any], None] = lambda folder, slice_: None,
    arguments: list[str] | None = None,
) -> None:
    """Runs `work` between checked inputs and a published, recorded output.

    Exits with 2 on a mistake the user can fix, with 1 on any other failure, and with 128 + the signal's number where it
    was asked to stop; each way the last line says what happened. Nothing is done where an earlier start of the same
    stage, on the same inputs, left its folder whole. A stage that succeeds says in its last line what it did.

    Args:
        work: the stage; it writes to `job.output` and returns.
        doc: the script's docstring, shown by --help.
        inputs: names of the inputs; each becomes an option that takes paths.
        settings: the section model of the rule's config slice.
        beside: writes into the finished folder what no other stage depends on, by the slice alone.
        external: inputs that may be folders from outside, which nobody sealed; their digest is over all their files.
        arguments: command line, for tests; defaults to sys.argv.
    """
    rule = Path(sys.argv[0]).stem
    options = _parse(arguments, doc, inputs)
    leave_other_groups()
    atexit.register(end_words)  # registered first, so called behind the handlers of all libraries
    try:
        with watched():
            done = _run(work, rule, options, settings, inputs, external, beside)
        if done:
            print(f"done: {rule}: {_artifact(options.output)}: {done}", file=sys.stderr, flush=True)
    except (Exception, SystemExit) as error:
        ended = explain(error, options.output)
        # Only a log keeps the traceback; a person at the terminal gets the one line, and gets it last.
        if not sys.stderr.isatty():
            traceback.print_exc()
        print(f"error: {rule}: {ended.message}", file=sys.stderr, flush=True)
        sys.exit(ended.code)
