"""Damages the saved work of killed stages, starts each again, and compares what comes out.

    export PYTHONPATH=workflow:tests/helpers OMP_NUM_THREADS=1
    .venv/bin/python tests/reliability/flips.py --damages 1000 --seed 1 > flips.csv
    .venv/bin/python tests/reliability/flips.py --damages 1000 --seed 1 --only 17 940
    .venv/bin/python tests/reliability/flips.py --damages 30 --seed 1 --study

Each damage hits a copy of what a stage of one kind left in `.state`: a training, a base, blocks of answers, candidate
sets, values, verdicts, a published folder of which nobody heard (tests/helpers/state_kinds.py). Allowed are the bytes
of an undisturbed run, or one line whose advice helps. With `--study` the state is that of the small study, killed at
random moments and started again by Snakemake, ten damages a kill; its tables must be those of an undisturbed one.
"""

import argparse
import csv
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from subprocess import CompletedProcess

import psutil

from distill.files import digest_file, list_files, read_json
from distill.provenance.record import record_path
from fake_openai import FakeOpenAI
from stage_process import WORKFLOW, Finished
from state_kinds import Kind, judged, left_in, make_kinds
from warm import ENVIRONMENT, stop_servers
from workplace import check_out, untimed_tables

SAME, NAMED, LINE = "same bytes", "same bytes, damage named", "one line"
SILENT, CRASH, REPEATS, FORGOTTEN = "SILENT USE", "CRASH", "CRASH THAT REPEATS", "MONEY FORGOTTEN"
ALLOWED = (SAME, NAMED, LINE)
_PAGE = 4096


@dataclass
class Damage:
    """What was done to a file, and how the stage ended that was started again.

    `piece`: what the file is; `line`: the last of the log where it names the file or the stage failed.
    """

    number: int
    kind: str
    piece: str
    action: str
    outcome: str
    seconds: float
    path: str
    line: str


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= draw.randrange(1, 256)
    _write(path, content)


def _zero(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    first = draw.randrange(0, len(content), _PAGE)
    content[first : first + _PAGE] = bytes(len(content[first : first + _PAGE]))
    _write(path, content)


def _cut(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    _write(path, content[: draw.randrange(len(content))])


def _cut_at_a_row(path: Path, draw: random.Random) -> None:
    rows = path.read_bytes().splitlines(keepends=True)
    _write(path, b"".join(rows[: draw.randrange(len(rows))]))


def _lose_a_row(path: Path, draw: random.Random) -> None:
    rows = path.read_bytes().splitlines(keepends=True)
    del rows[draw.randrange(len(rows))]
    _write(path, b"".join(rows))


def _double_a_row(path: Path, draw: random.Random) -> None:
    rows = path.read_bytes().splitlines(keepends=True)
    rows.insert(draw.randrange(len(rows) + 1), draw.choice(rows))
    _write(path, b"".join(rows))


def _append(path: Path, draw: random.Random) -> None:
    _write(path, path.read_bytes() + draw.randbytes(draw.randrange(1, 64)))


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Returns paths in an order in which digests of keys, which differ with the campaign's folder, count last."""
    return sorted(paths, key=lambda path: (re.sub("-[0-9a-f]{32}", "", str(path)), path))


def _swap(path: Path, draw: random.Random) -> None:
    """Exchanges a file or folder with another one beside it, or one of its name elsewhere in the state."""
    (state,) = (parent for parent in path.parents if parent.name == ".state")
    others = [*path.parent.iterdir(), *state.rglob(path.name)]
    others = in_order(own for own in set(others) if own != path and own.is_dir() == path.is_dir())
    if others:
        other, aside = draw.choice(others), path.with_name("aside")
        path.rename(aside)
        other.rename(path)
        aside.rename(other)


ACTIONS: dict[str, Callable[[Path, random.Random], None]] = {
    "flip": _flip,
    "zero a page": _zero,
    "cut": _cut,
    "cut at a row": _cut_at_a_row,
    "lose a row": _lose_a_row,
    "double a row": _double_a_row,
    "append": _append,
    "empty": lambda path, _: _write(path, b""),
    "delete": lambda path, _: _remove(path),
    "delete the folder": lambda path, _: _remove(path.parent),
    "swap": _swap,
    "swap the folder": lambda path, draw: _swap(path.parent, draw),
}
PIECES = (
    (r"owners/.*/owner\.json", "owner"),
    (r"owners/.*", "mark of an owner"),
    (r"receipts/.*", "receipt"),
    (r"settings/.*", "settings"),
    (r".*/tries", "count of tries"),
    (r".*/saved/.*/COMPLETE", "seal of a state"),
    (r".*/saved/.*/engine/.*", "weights and optimiser"),
    (r".*/saved/.*/task/.*", "state of a method"),
    (r".*/saved/.*\.saved", "logs of a state"),
    (r".*/saved/.*", "state.json"),
    (r".*/checkpoints/.*/COMPLETE", "seal of a checkpoint"),
    (r".*/checkpoints/.*", "checkpoint"),
    (r".*/resume\.json", "pointer"),
    (r".*/verdicts\.jsonl", "verdicts"),
    (r".*/verdicts\.count\.json", "count of verdicts"),
    (r".*/(metrics|dev|dev_items)\.jsonl", "logs to look at"),
    (r".*/entropy.*\.json", "entropy"),
    (r".*\.sha256", "seal of a block"),
    (r".*\.(jsonl|safetensors)", "block"),
)
FRAME = ("owner", "mark of an owner", "count of tries")


def piece_of(name: str) -> str:
    """Returns what a file is, by its path below `.state`."""
    return next(piece for pattern, piece in PIECES if re.fullmatch(pattern, name))


def _content(state: Path) -> dict[Path, str]:
    return {path: digest_file(path) for path in list_files(state)}


def damage(state: Path, draw: random.Random) -> tuple[str, str, str]:
    """Damages one file, or a folder, at random; returns piece, action and path.

    Pieces of the stage's own work are equally likely, each three times as likely as one of the frame around it.
    """
    by_piece: dict[str, list[Path]] = {}
    for path in in_order(list_files(state)):
        by_piece.setdefault(piece_of(str(path.relative_to(state))), []).append(path)
    before, pieces = _content(state), sorted(by_piece)
    while True:
        (piece,) = draw.choices(pieces, [1 if own in FRAME else 3 for own in pieces])
        action = draw.choice(sorted(ACTIONS))
        path = draw.choice(by_piece[piece])
        if path.stat().st_size or action.split()[0] in ("append", "delete", "swap"):
            whole = action.endswith("the folder") and path.parents[1] == state.parent
            if not whole:
                ACTIONS[action](path, draw)
        if _content(state) != before:
            return piece, action, str(path.relative_to(state))


def follow(line: str) -> None:
    """Does what an error's line advises."""
    if found := re.search(r"run `python -m (distill release [^`]+)`", line):
        command = [sys.executable, "-m", *found[1].split(maxsplit=2)]
        subprocess.run(command, env=ENVIRONMENT | {"PYTHONPATH": str(WORKFLOW)}, check=True, capture_output=True)
    elif found := re.search(r"delete (\S+) and rerun", line):
        _remove(Path(found[1]))


def outcome_of(kind: Kind, place: Path, done: Finished, whole: dict[str, str]) -> tuple[str, str]:
    """Returns the outcome of a start, and the line that tells of the damage; where it failed it is started again."""
    lines = done.text.rstrip().splitlines() or [""]
    if done.code == 0 and "Traceback" not in done.text:
        about = [line for line in lines if re.match("note: |.*: expected .*, found ", line)]
        # A count that is gone begins again.
        tries = read_json(record_path(place / "output"))["predicate"]["runDetails"]["tries"]
        if left_in(place) != whole or tries not in (1, 2):
            return SILENT, f"tries {tries}"
        return (NAMED, about[0]) if about else (SAME, "")
    is_line = done.code == 2 and lines[-1].startswith(f"error: {kind.stage}: ")
    if is_line:
        follow(lines[-1])
    again = kind.start(place)
    if again.code:
        return REPEATS, lines[-1]
    return (LINE if is_line else CRASH) if left_in(place) == whole else SILENT, lines[-1]


class Campaign:
    """Every kind of saved state, made once below a folder; damages are drawn on copies.

    Args:
        root: the folder.
        names: of the kinds; all if there are none.
    """

    def __init__(self, root: Path, server: FakeOpenAI, batches: FakeOpenAI, names: Sequence[str] = ()):
        self._root, self._wholes, self._billed = root, dict[str, dict[str, str]](), dict[str, int]()
        kinds = make_kinds(root / "inputs", server, batches)
        self.kinds = [kind for kind in kinds if not names or kind.name in names]

    def _saved(self, kind: Kind) -> Path:
        """Returns the folder in which a kind was killed; there it was also run whole, before."""
        saved, place = self._root / "saved" / kind.name, self._root / "place"
        if kind.name not in self._wholes:
            for run in (lambda: assert_ends(kind, place), lambda: kind.kill_in(place)):
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                before = len(kind.billed)
                run()
                self._wholes.setdefault(kind.name, left_in(place))
                self._billed[kind.name] = len(kind.billed) - before
            shutil.copytree(place, saved)
        return saved

    def run(self, number: int, seed: int) -> Damage:
        """Damages the state of one kind, by turns, and starts its stage again."""
        kind = self.kinds[number % len(self.kinds)]
        saved, place = self._saved(kind), self._root / "place"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(saved, place)
        piece, action, path = damage(place / ".state", random.Random(f"{seed} {number}"))
        began, before = time.monotonic(), len(kind.billed) - self._billed[kind.name]
        outcome, line = outcome_of(kind, place, kind.start(place), self._wholes[kind.name])
        seconds = round(time.monotonic() - began, 2)
        # Journal and count together are all that is known of the money.
        if kind.billed and outcome in ALLOWED and action not in ("swap", "swap the folder", "delete the folder"):
            owed = (len(kind.billed) - before) * kind.price
            if (spent := read_json(place / "output" / "win_rate.json")["spent_usd"]) < owed - 1e-9:
                outcome, line = FORGOTTEN, f"{spent} of {owed}"
        return Damage(number, kind.name, piece, action, outcome, seconds, path, line[:300])


def assert_ends(kind: Kind, place: Path) -> None:
    """Runs a kind that nothing disturbs."""
    done = kind.start(place)
    assert done.code == 0, done.text


def campaign(root: Path, seed: int, numbers: Iterable[int], names: Sequence[str] = ()) -> Iterator[Damage]:
    """Yields the damages of some numbers."""
    with FakeOpenAI(judged) as server, FakeOpenAI(judged) as batches:
        own = Campaign(root, server, batches, names)
        for number in numbers:
            yield own.run(number, seed)


def kill_all() -> None:
    """Kills all that the warm servers run."""
    for server in psutil.Process().children():
        for child in server.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()


def study_campaign(root: Path, seed: int, damages: int, at_once: int = 10) -> Iterator[Damage]:
    """Yields the damages of a small study, each with how the commands ended that were given next."""
    draw, found, began = random.Random(seed), list[Damage](), time.monotonic()
    whole, place = check_out(root / "whole"), check_out(root / "study")
    whole.run()

    def ended(done: CompletedProcess) -> bool:
        """Follows the advice of a command that failed; returns whether it did not."""
        if done.returncode == 0:
            return True
        for own in found[-at_once:]:
            own.outcome, own.line = LINE, done.stdout.rstrip().splitlines()[-1][:300]
        follow(found[-1].line)
        return False

    while len(found) < damages:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(place.snakemake)
            with suppress(TimeoutError):
                running.result(timeout=draw.uniform(10, 60))
            was_killed = not running.done()
            kill_all()
        if was_killed:
            for _ in range(min(at_once, damages - len(found))):
                piece, action, path = damage(place.results / ".state", draw)
                rule = path.removeprefix("owners/").removeprefix("receipts/").partition("-")[0]
                found.append(
                    Damage(len(found), rule, piece, action, SAME, round(time.monotonic() - began, 1), path, "")
                )
        elif ended(running.result()):  # before the kill: make all of it again
            shutil.rmtree(place.results)
    is_whole = any(ended(place.snakemake()) for _ in range(3))
    if not is_whole or untimed_tables(whole.results) != untimed_tables(place.results):
        for own in found:
            own.outcome = SILENT if is_whole else REPEATS
    yield from found


def main() -> None:
    """Prints a CSV row for each damage; ends with 1 where one was used, or ended in a crash."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--damages", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", default=[], help="names of kinds; all if there are none")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the damages that are made again")
    parser.add_argument("--study", action="store_true", help="damage a study that Snakemake runs")
    options = parser.parse_args()
    numbers = options.only or range(options.damages)
    writer = csv.DictWriter(sys.stdout, [field.name for field in fields(Damage)])
    writer.writeheader()
    began, found = time.monotonic(), list[Damage]()
    with tempfile.TemporaryDirectory() as root:
        singles = campaign(Path(root), options.seed, numbers, options.kinds)
        for own in study_campaign(Path(root), options.seed, options.damages) if options.study else singles:
            writer.writerow(asdict(own))
            sys.stdout.flush()
            found.append(own)
    stop_servers()
    for field in ("kind", "piece", "action"):
        print(f"{field}: {dict(Counter(getattr(own, field) for own in found).most_common())}", file=sys.stderr)
    outcomes = Counter(own.outcome for own in found)
    print(f"{len(found)} damages in {time.monotonic() - began:.0f} s: {dict(outcomes.most_common())}", file=sys.stderr)
    sys.exit(bool(outcomes.keys() - ALLOWED))


if __name__ == "__main__":
    main()
