"""Writes into locks the sha256 of the files that pip may install, or checks those that are there.

    .venv/bin/python envs/hashes.py envs/*.lock
    .venv/bin/python envs/hashes.py --check envs/*.lock

A package's line gets the digests of its version's wheels for Python 3.11 on Linux, x86-64 and aarch64, as PyPI's index
names them; where there is no wheel for x86-64, of its source archive, too. Versions with a local part, such as
2.13.0+cpu, are not on PyPI and get none. A version that its makers have withdrawn (yanked), or that is gone, ends with
1, and with --check so does a digest that is another one today. Needs `packaging`, and the network.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

INDEX = "https://pypi.org/simple"
MACHINES = ("x86_64", "aarch64")


@cache
def files_of(package: str) -> list[dict]:
    """Returns what the index lists for a package: file name, hashes, and whether it is yanked."""
    request = Request(
        f"{INDEX}/{canonicalize_name(package)}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urlopen(request, timeout=60) as answer:
        return json.load(answer)["files"]


def fits(interpreter: str, abi: str, platform: str, machine: str) -> bool:
    """Returns whether Python 3.11 on a Linux machine takes a wheel of this tag."""
    if platform != "any" and not (platform.startswith(("manylinux", "linux_")) and platform.endswith(machine)):
        return False
    if (interpreter, abi) in (("cp311", "cp311"), ("cp311", "none"), ("py3", "none")):
        return True
    return (interpreter[:3], abi) in (("cp3", "abi3"), ("py3", "none")) and 0 < int(interpreter[3:]) <= 11


def digests_of(package: str, version: str) -> tuple[list[str], str | None]:
    """Returns the sorted digests of a version's files, and what is wrong with it."""
    wheels: dict[str, set[str]] = {machine: set() for machine in MACHINES}
    sources, yanked = set(), []
    for file in files_of(package):
        name, digest = file["filename"], file["hashes"]["sha256"]
        try:
            if name.endswith(".whl"):
                _, found, _, tags = parse_wheel_filename(name)
            else:
                (_, found), tags = parse_sdist_filename(name), frozenset()
        except (InvalidSdistFilename, InvalidWheelFilename):  # .exe, .egg and other old forms
            continue
        if found != Version(version):
            continue
        yanked += [name] * bool(file.get("yanked"))
        if not tags:
            sources.add(digest)
        for machine, own in wheels.items():
            if any(fits(tag.interpreter, tag.abi, tag.platform, machine) for tag in tags):
                own.add(digest)
    found = set().union(*wheels.values()) | (set() if wheels["x86_64"] else sources)
    problem = f"{', '.join(yanked)} withdrawn by its makers" if yanked else None if found else "no file on PyPI"
    return sorted(found), problem


def pinned(lines: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Returns (package, version) by line, of the lines that can have digests."""
    pins = {line: line.split()[0].split("==") for line in lines if line.strip() and not line.startswith("#")}
    return {line: (package, version) for line, (package, version) in pins.items() if "+" not in version}


def main() -> int:
    """Returns 0 where every version is there, not withdrawn and, with --check, has the digests of the lock."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change no file")
    parser.add_argument("locks", type=Path, nargs="+")
    options = parser.parse_args()
    problems = 0
    for path in options.locks:
        lines = path.read_text().splitlines()
        pins = pinned(lines)
        try:
            with ThreadPoolExecutor(8) as pool:
                found = dict(zip(pins, pool.map(lambda pin: digests_of(*pin), pins.values()), strict=True))
        except (URLError, TimeoutError) as error:
            sys.exit(f"error: {path}: expected {INDEX} to answer, found {error}; run this with a network")
        new = {
            line: " ".join([line.split()[0], *(f"--hash=sha256:{digest}" for digest in digests)])
            for line, (digests, _) in found.items()
        }
        wrong = {line: problem for line, (_, problem) in found.items() if problem}
        if options.check:
            wrong |= {line: "other digests than the index has today" for line, text in new.items() if text != line}
        for line, problem in wrong.items():
            print(f"{path}: {line.split()[0]}: {problem}")
        problems += len(wrong)
        if not options.check:
            path.write_text("".join(f"{new.get(line, line)}\n" for line in lines))
        print(f"{path}: {len(pins)} packages, {sum(len(d) for d, _ in found.values())} files", file=sys.stderr)
    return int(problems > 0)


if __name__ == "__main__":
    sys.exit(main())
