"""Runs the smallest study in places that refuse: full disks, other file systems, a clock that jumps.

    export PYTHONPATH=workflow:tests/helpers
    .venv/bin/python tests/reliability/places.py full --seed 1 > full.csv
    .venv/bin/python tests/reliability/places.py elsewhere --kind exfat
    .venv/bin/python tests/reliability/places.py look
    .venv/bin/python tests/reliability/places.py clock --library /usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1

Needs the right to mount. `full`: each stage makes its artifact again on a tmpfs with less room than it takes; its last
line and Snakemake's must tell what is needed and what is free; with room the same command must complete. `elsewhere`:
the whole study on another file system, `tmpfs` behind a link or `exfat` over FUSE, which has no hard links. `look`: a
finished study that is mounted read-only can be looked at, and a run says what it needs. `clock`: a half of the study is
made an hour and a day in the past. The tables must be those of a study that nobody disturbed.
"""

import argparse
import csv
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from distill.files import MANIFEST, read_json
from warm import stop_servers
from workplace import Workplace, check_out, untimed_tables

_BLOCK = 4096
_ALL = 4 << 30


@dataclass
class Full:
    """How a stage ended on a disk that was full, and how the same command ended with room.

    `room`: bytes that were free. `says`: whether the last line of Snakemake's output, and of the stage's log if one
    could be written, tells what is needed and what is free. `code`, `again`: exit codes of Snakemake.
    """

    rule: str
    artifact: str
    needs: int
    room: int
    code: int
    says: bool
    again: int
    last_line: str


def can_mount() -> bool:
    """Returns whether this process may mount file systems."""
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(["mount", "-t", "tmpfs", "none", place], capture_output=True)
        return done.returncode == 0 and subprocess.run(["umount", place], capture_output=True).returncode == 0


@contextmanager
def mounted(place: Path, *command: str) -> Iterator[Path]:
    """Mounts a file system while the block runs."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run([*command, place], check=True, stdout=subprocess.DEVNULL)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@contextmanager
def without_links(place: Path, folder: Path) -> Iterator[Path]:
    """Mounts exFAT over FUSE, which has no hard links, no owners and no modes."""
    image = folder / "exfat.img"
    with open(image, "wb") as file:
        file.truncate(1 << 30)
    subprocess.run(["mkfs.exfat", image], check=True, stdout=subprocess.DEVNULL)
    found = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True)
    try:
        with mounted(place, "mount.exfat-fuse", found.stdout.strip()):
            yield place
    finally:
        subprocess.run(["losetup", "--detach", found.stdout.strip()], check=True)


def resize(place: Path, size: int) -> None:
    """Gives a tmpfs another size."""
    subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)


def used(place: Path) -> int:
    """Returns the bytes that a file system holds."""
    found = os.statvfs(place)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def one_of_each_rule(results: Path) -> dict[str, Path]:
    """Returns an artifact of each rule, relative to the results."""
    found: dict[str, Path] = {}
    for record in sorted(results.rglob("*.prov.json")):
        rule = read_json(record)["predicate"]["buildDefinition"]["externalParameters"]["rule"]
        found.setdefault(rule, record.relative_to(results).with_name(record.name.removesuffix(".prov.json")))
    return found


def says_what_is_free(line: str) -> bool:
    """Returns whether a last line is an error's, and tells what is needed and what is free."""
    return line.startswith("error: ") and "expected room on the disk" in line and " MB free" in line


def fill(place: Workplace, rule: str, artifact: Path, share: float) -> Full:
    """Makes an artifact again in results that have room for a share of it, and then with room.

    Args:
        place: a finished study whose results are a tmpfs.
        rule: of the artifact.
        artifact: relative to the results.
        share: of what it takes; below 1.
    """
    results, folder = place.results, place.results / artifact
    files = [path for path in ([folder] if folder.is_file() else folder.rglob("*")) if path.is_file()]
    needs = sum(-(-path.stat().st_size // _BLOCK) * _BLOCK for path in files)
    target = f"results/{artifact}" + (f"/{MANIFEST}" if folder.is_dir() else "")
    shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    folder.with_name(f"{folder.name}.prov.json").unlink()
    for name in (".state", "logs", "benchmarks"):
        shutil.rmtree(results / name, ignore_errors=True)
    room = int(share * needs) // _BLOCK * _BLOCK
    resize(results, used(results) + room)
    failed = place.snakemake(target)
    logs = [path.read_text().strip() for path in (results / "logs" / rule).rglob("*.log")]
    last = failed.stdout.strip().splitlines()[-1]
    own = [text.splitlines()[-1] for text in logs if text]
    resize(results, _ALL)
    again = place.snakemake(target)
    says = says_what_is_free(last) and all(map(says_what_is_free, own))
    return Full(rule, str(artifact), needs, room, failed.returncode, says, again.returncode, last[:300])


def campaign(place: Workplace, shares: list[float], rules: list[str], seed: int) -> Iterator[Full]:
    """Yields each stage on each full disk; `shares` of 0 mean no room at all, the others are drawn below them."""
    draw = random.Random(seed)
    found = one_of_each_rule(place.results)
    for rule in rules or [*found]:
        for share in shares:
            yield fill(place, rule, found[rule], share and draw.uniform(share / 2, share))


@contextmanager
def finished_on_tmpfs(whole: Workplace, folder: Path) -> Iterator[Workplace]:
    """Yields a copy of a finished study whose results are a tmpfs."""
    copy = Workplace(Path(shutil.copytree(whole.folder, folder, ignore=shutil.ignore_patterns("results"))))
    with mounted(copy.results, "mount", "-t", "tmpfs", "-o", f"size={_ALL}", "none"):
        shutil.copytree(whole.results, copy.results, dirs_exist_ok=True)
        yield copy


def look_read_only(whole: Workplace) -> list[str]:
    """Returns what is wrong with looking at results that are mounted read-only and lack their last page."""
    faults = []
    for name in ("tables.md", "tables.md.prov.json"):
        (whole.results / name).unlink()  # something to make
    with mounted(whole.results, "mount", "--bind", str(whole.results)):
        subprocess.run(["mount", "-o", "remount,bind,ro", whole.results], check=True)
        for arguments in (["--dry-run"], ["--summary"], ["--list-rules"]):
            done = whole.snakemake(*arguments)
            if done.returncode:
                faults.append(f"{arguments}: {done.stdout.strip().splitlines()[-1]}")
        done = whole.snakemake()
        last = done.stdout.strip().splitlines()[-1]
        if not done.returncode or not last.startswith("error: results: expected a folder that can be made and written"):
            faults.append(f"a run: {last}")
    return faults


def _tables_of(folder: Path, kind: str) -> tuple[int, dict[str, list[dict]]]:
    """Returns exit code and tables of a study whose results lie on another file system."""
    place = check_out(folder / "elsewhere")
    other = folder / "other"
    with mounted(other, "mount", "-t", "tmpfs", "none") if kind == "tmpfs" else without_links(other, folder):
        if kind == "tmpfs":
            shutil.rmtree(place.results, ignore_errors=True)
            place.results.symlink_to(other)
        else:
            place.configure({"results": str(other / "results")})
        done = place.snakemake()
        print(done.stdout[-1500:] if done.returncode else "", file=sys.stderr, end="")
        results = place.results if kind == "tmpfs" else other / "results"
        return done.returncode, untimed_tables(results)


def with_jumps(whole: Workplace, place: Workplace, library: str) -> list[str]:
    """Returns what is wrong where the clock goes back between parts of a study."""
    faults = []
    steps = [("+0", "results/data/split/COMPLETE"), ("-1h", "results/training/phase1/COMPLETE")]
    steps += [("-1d", "results/models/sft/COMPLETE"), ("+0", "results/tables.md")]
    for offset, target in steps:
        jump = {"LD_PRELOAD": library, "FAKETIME": offset, "DONT_FAKE_MONOTONIC": "1"} if offset != "+0" else {}
        done = place.snakemake(target, warm=False, **jump)
        if done.returncode:
            faults.append(f"{target} at {offset}: {done.stdout.strip().splitlines()[-1]}")
    if not faults and untimed_tables(whole.results) != untimed_tables(place.results):
        faults.append("the tables differ")
    return faults


def main() -> None:
    """Prints what each place did; ends with 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("full", "elsewhere", "look", "clock"))
    parser.add_argument("--kind", choices=("tmpfs", "exfat"), default="exfat", help="of the other file system")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shares", type=float, nargs="*", default=[0.0, 0.5, 1.0], help="of the room that is needed")
    parser.add_argument("--rules", nargs="*", default=[], help="only these stages")
    parser.add_argument("--whole", type=Path, help="a finished smallest study of this commit; made where left out")
    parser.add_argument("--library", default="libfaketime.so.1", help="of libfaketime")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        whole = Workplace(options.whole) if options.whole else check_out(Path(folder) / "whole")
        if not options.whole:
            whole.run()
        if options.part == "full":
            faults = _run_full(whole, Path(folder), options)
        elif options.part == "elsewhere":
            code, tables = _tables_of(Path(folder), options.kind)
            faults = [f"exit code {code}"] if code else [] if tables == untimed_tables(whole.results) else ["tables"]
        elif options.part == "look":
            faults = look_read_only(Workplace(Path(shutil.copytree(whole.folder, Path(folder) / "look"))))
        else:
            faults = with_jumps(whole, check_out(Path(folder) / "jumps"), options.library)
    stop_servers()
    print(f"{options.part}: {time.monotonic() - began:.0f} s; faults: {faults or 'none'}", file=sys.stderr)
    sys.exit(bool(faults))


def _run_full(whole: Workplace, folder: Path, options: argparse.Namespace) -> list[str]:
    writer = csv.DictWriter(sys.stdout, [field.name for field in fields(Full)])
    writer.writeheader()
    faults = []
    with finished_on_tmpfs(whole, folder / "full") as place:
        for row in campaign(place, options.shares, options.rules, options.seed):
            writer.writerow(asdict(row))
            sys.stdout.flush()
            if row.again or (row.code and not row.says):
                faults.append(f"{row.rule} with {row.room} of {row.needs} bytes")
        place.run()
        if untimed_tables(place.results) != untimed_tables(whole.results):
            faults.append("the tables differ")
    return faults


if __name__ == "__main__":
    main()
