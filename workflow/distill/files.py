"""Files that are whole or absent: atomic writes, JSON and JSONL, digests, folders sealed by a `COMPLETE` manifest."""

import codecs
import errno
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distill.errors import DataError

MANIFEST, PRUNED = "COMPLETE", "PRUNED"
"""Files that say that a folder is whole, and that it was whole until all but its manifest was removed to save room."""
CARD = "README.md"
"""Of a model's folder: told beside the model, not sealed with it, so that no word of it makes anything again."""
ROOT_MANIFEST, STATE = "MANIFEST.json", ".state"  # of a whole study: what it holds, and its work in progress
CURVES = "curves"  # of a study's trainings, to look at
ASIDE = (STATE, CURVES)
"""Folders of a study that are no part of what it holds."""
_LEFT_OVER = re.compile(r"\.(?:tmp|old)-\d+(?:-[0-9a-f]+)?$")
# Beside the process id, which containers and hosts on one file system share.
_TOKEN = secrets.token_hex(4)
_ROOM = "free some or set `results` in the config to a larger disk; finished work is kept"
_FIXES = {
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        ("permission to use it", "change its permissions or set `results` in the config to a folder of yours"),
    ),
    errno.ENOSPC: ("room on the disk", _ROOM),
    errno.EDQUOT: ("room in the quota", _ROOM),
    errno.EFBIG: ("room for a larger file", "raise the limit (`ulimit -f`) or use a file system that takes such files"),
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP),
        ("a folder above each file", "move what is in the way or set `results` in the config to another folder"),
    ),
    errno.ENAMETOOLONG: ("a shorter path", "set `results` in the config to a folder with a shorter path"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), ("room for one more open file", "raise the limit (`ulimit -n`)")),
    **dict.fromkeys((errno.EIO, errno.ESTALE), ("a disk that answers", "check the disk or its mount, and run again")),
}
_NO_LINK = {errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EPERM, errno.EACCES}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where a file cannot grow."""


def _free(place: Path) -> str:
    """Returns what is free where a path lies, in words."""
    nearest = next((folder for folder in (place, *place.absolute().parents) if folder.exists()), Path("/"))
    found = os.statvfs(nearest)
    unit = found.f_frsize / 1e6
    files = ", no file more" if found.f_files and not found.f_favail else ""
    return f"{found.f_bavail * unit:.1f} MB of {found.f_blocks * unit:.1f} MB free{files}"


def is_full(folder: Path) -> bool:
    """Returns whether no byte more can be written where a folder lies."""
    return os.statvfs(folder).f_bavail == 0


def explain_os_error(number: int | None, place: Path | str) -> DataError | None:
    """Returns what a user can do about a refusal of the file system at a place; None if nothing is known."""
    if number not in _FIXES:
        return None
    expected, fix = _FIXES[number]
    found = f"{os.strerror(number)} ({_free(Path(place))})" if number in FULL else os.strerror(number)
    return DataError(f"{place}: expected {expected}, found {found}; {fix}")


@contextmanager
def fixable_os_errors(place: Path | str) -> Iterator[None]:
    """Turns a refusal of the file system that the user can fix (permission, full disk, a file where a folder belongs)
    into a DataError; `place` is named where the system names no file.
    """
    try:
        yield
    except OSError as error:
        explained = explain_os_error(error.errno, error.filename or place)
        if explained is None:
            raise
        raise explained from error


def canonical_json(value: Any) -> str:
    """Returns the one JSON text of `value`: sorted keys, no spaces, so that equal values have equal digests."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_value(value: Any) -> str:
    """Returns the sha256 (hex) of a JSON-like value's canonical text."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Returns the sha256 (hex) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems sync no folder
            raise
    finally:
        os.close(descriptor)


def link_or_copy(source: Path, target: Path) -> None:
    """Makes `target` a second name of a file, or a copy where the file systems have none: across two disks, without
    hard links, with too many of them, or where the file is somebody else's.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copyfile(source, target)


def temporary_beside(path: Path) -> Path:
    """Returns a sibling name on the same file system, so that a rename onto `path` is atomic."""
    return path.with_name(f"{path.name}.tmp-{os.getpid()}-{_TOKEN}")


def _retired_beside(path: Path) -> Path:
    """Returns the sibling name of an older version that is about to be deleted."""
    return path.with_name(f"{path.name}.old-{os.getpid()}-{_TOKEN}")


def is_left_over(path: Path) -> bool:
    """Returns whether a path is, or lies in, what a kill left beside an artifact: unpublished, or half deleted."""
    return any(_LEFT_OVER.search(part) for part in path.parts)


def is_study(folder: Path) -> bool:
    """Returns whether a folder is the results of a study, finished or begun; an artifact is none."""
    return ((folder / ROOT_MANIFEST).is_file() or (folder / STATE).is_dir()) and not (folder / MANIFEST).is_file()


def is_own(results: Path, path: Path) -> bool:
    """Returns whether a path in a results folder is its study's: not of one that lies in it, nor left by a kill."""
    relative = path.relative_to(results)
    return not is_left_over(relative) and not any(is_study(results / parent) for parent in relative.parents[:-1])


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def remove_left_overs(path: Path) -> None:
    """Removes what killed processes left beside a file or folder. Only its owner may: a living one's goes, too."""
    for sibling in path.parent.glob(f"{glob.escape(path.name)}.*-*"):
        found = _LEFT_OVER.search(sibling.name)
        if found and sibling.name[: found.start()] == path.name:
            _remove(sibling)


def remove_left_overs_in(folder: Path) -> None:
    """Removes what killed processes left anywhere below a folder. Only its owner may."""
    for path in sorted(folder.rglob("*")):
        if _LEFT_OVER.search(path.name) and path.exists():
            _remove(path)


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yields a temporary sibling of `path`; on success it is synced and renamed onto `path`, on failure removed.

    Raises:
        DataError: the folder of `path` cannot be written.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    with fixable_os_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            if temporary.exists():
                temporary.unlink()


def write_text(path: Path | str, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def json_text(value: Any) -> str:
    """Returns JSON for people and programs: indented, keys in the given order."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def write_json(path: Path | str, value: Any) -> None:
    """Writes `json_text` of a value atomically."""
    write_text(path, json_text(value))


def write_jsonl(path: Path | str, rows: Iterable[dict]) -> None:
    """Writes one compact JSON object a line, atomically."""
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class HalfCharacter(ValueError):
    """A text that no UTF-8 file can hold."""


def _half_characters(value: Any, field: str) -> Iterator[str]:
    """Yields the fields, as `a.b`, whose text has half of a surrogate pair, which no UTF-8 file can hold."""
    if isinstance(value, str) and _SURROGATE.search(value):
        yield field
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, entry in entries:
        own = f"{field}.{name}" if field else f"{name}"
        yield from [own] if isinstance(name, str) and _SURROGATE.search(name) else _half_characters(entry, own)


def parse_json(content: bytes, object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Returns the value of a JSON text.

    Raises:
        ValueError: it is no JSON in UTF-8, or a text in it has half of a surrogate pair.
        RecursionError: it is nested too deeply.
    """
    value = json.loads(content.decode(), object_pairs_hook=object_pairs_hook)
    if _ESCAPED_SURROGATE.search(content) and (field := next(_half_characters(value, ""), None)) is not None:
        raise HalfCharacter(f"half a character (a lone surrogate) in `{ascii(field)[1:-1]}`")
    return value


def read_json(path: Path | str) -> Any:
    """Reads a JSON file.

    Raises:
        DataError: the file is missing or not JSON.
    """
    path = Path(path)
    try:
        return parse_json(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path}: expected a JSON file, found none; run the rule that makes it") from error
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, a number or a nesting without end
        raise DataError(f"{path}: expected JSON, found {error}; delete the file and rerun to make it again") from error


class _Unreadable(ValueError):
    """What a line has that no row may have."""


def _each_field_once(pairs: list[tuple[str, Any]]) -> dict:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Unreadable(f"the field `{next(name for name in names if names.count(name) > 1)}` twice")
    return row


def _parse_line(line: bytes) -> Any:
    """Returns the JSON value of a line; raises _Unreadable or HalfCharacter with what was found instead."""
    try:
        return parse_json(line, _each_field_once)
    except json.JSONDecodeError as error:
        raise _Unreadable(f"malformed JSON ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise _Unreadable(f"malformed JSON ({error.reason})") from error
    except (_Unreadable, HalfCharacter):
        raise
    except ValueError as error:
        raise _Unreadable("a number of more digits than can be read") from error
    except RecursionError as error:
        raise _Unreadable("JSON that is nested too deeply to read") from error


def read_jsonl(path: Path | str) -> Iterator[tuple[int, dict]]:
    """Yields (line number from 1, object) of a JSONL file; blank lines and a byte-order mark are skipped.

    Raises:
        DataError: the file is missing, or a line is not a JSON object, has a field twice, half of a surrogate pair, or
            what Python cannot read (numbers above 4,300 digits, deep nesting); the message names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: expected a JSONL file, found none; check the path in the config")
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if not line.strip():
                continue
            try:
                row = _parse_line(line)
            except (_Unreadable, HalfCharacter) as error:
                raise DataError(
                    f"{path}:{number}: expected one JSON object a line, found {error}; fix or delete this line"
                ) from error
            if not isinstance(row, dict):
                raise DataError(
                    f"{path}:{number}: expected a JSON object, found {type(row).__name__}; fix or delete this line"
                )
            yield number, row


def list_files(folder: Path) -> list[Path]:
    """Returns the files of a folder tree, sorted by relative path, its own manifest left out."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)


def seal_folder(folder: Path) -> dict[str, dict]:
    """Writes the folder's `COMPLETE` manifest {relative path: {size, sha256}} and returns it.

    Raises:
        DataError: there is no file to seal.
    """
    manifest = {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": digest_file(path)}
        for path in list_files(folder)
    }
    if not manifest:
        raise DataError(f"{folder}: expected files to seal, found none; run the rule again")
    files = list_files(folder)
    for path in [*files, *{path.parent for path in files}]:
        _sync(path)
    write_json(folder / MANIFEST, manifest)
    return manifest


def _is_entry(name: str, entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and type(entry.get("size")) is int
        and bool(re.fullmatch("[0-9a-f]{64}", str(entry.get("sha256"))))
        and ".." not in Path(name).parts
        and not os.path.isabs(name)
    )


def load_manifest(path: Path) -> dict[str, dict]:
    """Returns {relative path: {size, sha256}} of a manifest, without a look at the files.

    Raises:
        DataError: it is no such mapping, or covers no file.
    """
    manifest = read_json(path)
    fix = "delete it and rerun to make the folder again"
    if not isinstance(manifest, dict) or not manifest:
        found = "no entry" if manifest == {} else type(manifest).__name__
        raise DataError(f"{path}: expected size and sha256 by file, found {found}; {fix}")
    for name, entry in manifest.items():
        if not _is_entry(name, entry):
            raise DataError(f"{path}: expected size and sha256 of a file below, found another entry at {name!r}; {fix}")
    return manifest


def without_pruned(folder: Path, entries: dict[str, Any]) -> dict[str, Any]:
    """Returns what is listed of a folder but the files of pruned folders below it, of which the manifests stay.

    Args:
        folder: what the names of the entries start from.
        entries: by relative path.
    """
    manifests = [name for name in entries if name.endswith(f"/{MANIFEST}")]
    pruned = tuple(name.removesuffix(MANIFEST) for name in manifests if (folder / name).with_name(PRUNED).exists())
    return {name: entry for name, entry in entries.items() if name in manifests or not name.startswith(pruned)}


def read_manifest(folder: Path | str) -> dict[str, dict]:
    """Returns a sealed folder's manifest, without what was pruned since.

    Raises:
        DataError: the folder has no manifest, or one that is none, or a file is missing or has another size than the
            manifest says.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise DataError(
            f"{folder}: expected a complete folder with a {MANIFEST} manifest, found none; rerun the rule that makes it"
        )
    manifest = without_pruned(folder, load_manifest(folder / MANIFEST))
    for name, entry in manifest.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else "no file"
        if found != entry["size"]:
            raise DataError(
                f"{path}: expected {entry['size']} bytes as sealed in {folder / MANIFEST}, found {found}; "
                f"delete {folder / MANIFEST} and rerun to make the folder again"
            )
    return manifest


def replace_folder(source: Path, target: Path) -> None:
    """Moves a finished folder onto `target`; an older one there goes only once the new one is in reach."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        retired = _retired_beside(target)
        os.replace(target, retired)
        os.replace(source, target)
        _remove(retired)
    else:
        os.replace(source, target)
    _sync(target.parent)
