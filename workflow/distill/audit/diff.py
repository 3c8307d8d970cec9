"""What differs between two runs of a study, and which artifacts that explains; or between tables alone."""

import csv
import json
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from distill.audit.archive import Archive, Artifact, study_archive
from distill.audit.committed import WORST, is_committed, read_tables, tell_tables
from distill.audit.recompute import as_written
from distill.audit.words import count, flat, listed
from distill.checkpoints import METRICS
from distill.command import Command, say
from distill.evaluation.efficiency import MEASURED, OF_MACHINE
from distill.files import read_jsonl
from distill.report.csv_tables import without_times

_LOGGED_TIMES = ("seconds", "tokens_per_second")
EQUAL, TIMES, CHANGED, FIRST, SECOND = "equal", "times", "changed", "first", "second"
"""States of an artifact; the last two are of one that is in one run alone."""


@dataclass(frozen=True)
class Cause:
    """Something that a step was given otherwise: what it is, and what it was in each run."""

    what: str
    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.what}: {self.first} -> {self.second}"


@dataclass(frozen=True)
class Difference:
    """What became of one artifact in both runs.

    Attributes:
        name: the artifact's.
        state: equal bytes, nothing but measured times, changed, or in the first or second run alone.
        causes: what its own step was given otherwise, inputs that are artifacts left out.
        after: its inputs that are not equal, which explain it where it has no cause of its own.
        files: its files that differ in more than times.
    """

    name: str
    state: str
    causes: tuple[Cause, ...]
    after: tuple[str, ...]
    files: tuple[str, ...]


def _own_causes(first: Artifact, second: Artifact, archives: tuple[Archive, Archive]) -> Iterator[Cause]:
    pairs = {
        "rule": [{"rule": one.rule} for one in (first, second)],
        "settings": [flat(one.settings) for one in (first, second)],
        "code": [{f"code of {one.rule}": one.code} for one in (first, second)],
        "lock": [{"lock": one.lock} for one in (first, second)],
        "versions": [{f"version of {name}": text for name, text in one.versions.items()} for one in (first, second)],
        "outside": [
            {f"input {entry.uri}": entry.sha256[:16] for entry in archive.inputs(one) if not entry.is_inside}
            for archive, one in zip(archives, (first, second), strict=True)
        ],
    }
    for here, there in pairs.values():
        for key in dict.fromkeys([*here, *there]):
            if here.get(key) != there.get(key):
                yield Cause(key, *(_short(one[key]) if key in one else "none" for one in (here, there)))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _without_times(path: Path) -> Any:
    """Returns the content of a file of results without what a clock measured; None for any other file."""
    if times := {METRICS: _LOGGED_TIMES, MEASURED: OF_MACHINE}.get(path.name):
        return [{key: value for key, value in row.items() if key not in times} for _, row in read_jsonl(path)]
    if path.suffix == ".csv" and path.parent.name == "tables":
        with open(path, encoding="utf-8", newline="") as file:
            return without_times(path.stem, csv.DictReader(file))
    return None


def _changed_files(first: Artifact, second: Artifact) -> list[str]:
    """Returns the files that differ in more than measured times."""
    here, there = (
        {name.removeprefix(f"{one.name}/"): entry for name, entry in one.files().items()} for one in (first, second)
    )
    changed = []
    for name in sorted({*here, *there}):
        if name in here and name in there:
            if here[name]["sha256"] == there[name]["sha256"]:
                continue
            contents = [_without_times(one.path / name) for one in (first, second)]
            if contents[0] is not None and contents[0] == contents[1]:
                continue
        changed.append(name)
    return changed


def compare_runs(first: Archive, second: Archive) -> list[Difference]:
    """Returns what became of each artifact of either run, inputs before what was made from them.

    Raises:
        DataError: a folder's manifest is missing.
    """
    inputs: dict[str, set[str]] = {}
    for archive in (first, second):
        for name, artifact in archive.artifacts.items():
            own = {entry.artifact.name for entry in archive.inputs(artifact) if entry.artifact}
            inputs[name] = inputs.get(name, set()) | own
    found: dict[str, Difference] = {}
    for name in TopologicalSorter({name: sorted(own) for name, own in sorted(inputs.items())}).static_order():
        if name not in first.artifacts or name not in second.artifacts:
            found[name] = Difference(name, FIRST if name in first.artifacts else SECOND, (), (), ())
            continue
        here, there = first.artifacts[name], second.artifacts[name]
        causes = tuple(_own_causes(here, there, (first, second)))
        after = tuple(sorted(other for other in inputs[name] if found[other].state != EQUAL))
        state, files = EQUAL, tuple[str, ...]()
        if here.digest != there.digest:
            files = tuple(_changed_files(here, there))
            # Pages and figures hold the times of the tables and logs that they show.
            shows_times = not causes and after and all(found[other].state == TIMES for other in after)
            state = TIMES if not files or shows_times and here.rule in _SHOWING else CHANGED
        found[name] = Difference(name, state, causes, after, files)
    return [*found.values()]


_SHOWING = ("render_tables", "draw_figures", "render_report")


def _explained(found: Mapping[str, Difference], roots: set[str]) -> list[str]:
    """Returns the artifacts that changed and come, directly or not, after some roots."""
    reached = set(roots)
    for difference in found.values():  # inputs come first
        if reached.intersection(difference.after):
            reached.add(difference.name)
    return [name for name in found if name in reached and found[name].state == CHANGED]


def _reach(found: Mapping[str, Difference], roots: set[str]) -> str:
    names = _explained(found, roots)
    return f"  explains {count(len(names), 'artifact')}: {listed(names)}" if names else "  changed nothing"


def tell(differences: list[Difference]) -> tuple[list[str], bool]:
    """Returns what is to be said of two runs, and whether they are equal but for measured times."""
    found, said = {one.name: one for one in differences}, []
    by_cause: dict[Cause, list[str]] = {}
    for one in differences:
        for cause in one.causes:
            by_cause.setdefault(cause, []).append(one.name)
    for cause, names in by_cause.items():
        said += [f"{cause}", f"  given to {listed(names)}", _reach(found, {*names})]
    for one in differences:
        if one.state == CHANGED and not one.causes and not any(found[name].state != TIMES for name in one.after):
            said.append(
                f"{one.name}: expected equal bytes of equal inputs, settings, code and versions, found others in "
                f"{listed(one.files)}; run verify on both, then see the hosts and what does not repeat bit for bit"
            )
            said.append(_reach(found, {one.name}))
    for state in (FIRST, SECOND):
        alone = [one.name for one in differences if one.state == state]
        said += [f"in the {state} run alone: {listed(alone)}"] if alone else []
    states = Counter(one.state for one in differences)
    said.append(
        f"{count(len(differences), 'artifact')}: {states[EQUAL]} equal, {states[TIMES]} but for measured times, "
        f"{states[CHANGED]} changed, {states[FIRST] + states[SECOND]} in one run alone"
    )
    return said, not (by_cause or states.keys() - {EQUAL, TIMES})


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs=2, type=Path, metavar="RUN", help="two results folders, or tables that publish-tables keeps"
    )
    parser.add_argument("--all", action="store_true", help="of such tables, name every cell that differs")


def _run(options: Namespace) -> int:
    first, second = options.runs
    with as_written(f"{first} or {second}"):
        said, are_equal = _compare(first, second, None if options.all else WORST)
    say(*said)
    return 0 if are_equal else 1


def _compare(first: Path, second: Path, most: int | None) -> tuple[list[str], bool]:
    if is_committed(first) or is_committed(second):
        said, are_equal = tell_tables(read_tables(first), read_tables(second), most)
        return [*said, *["the tables are equal"] * are_equal], are_equal
    archives, shared = (study_archive(first), study_archive(second)), list[str]()
    for what in ("commit", "host"):
        here, there = (_common(archive, what) for archive in archives)
        shared += [f"{what}: {here} -> {there}"] if here != there else []
    said, are_equal = tell(compare_runs(*archives))
    return [*shared, *said, *["the runs are equal"] * are_equal], are_equal


def _common(archive: Archive, what: str) -> str:
    """Returns what is told of all artifacts alike, and of some otherwise."""
    return listed(dict.fromkeys(_short(getattr(artifact, what)) for artifact in archive.artifacts.values()))


COMMAND = Command("diff", "say what differs between two runs and what that explains", _add_arguments, _run)
