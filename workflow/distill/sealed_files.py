"""Files of work in progress that count only where their bytes are those that were written, in the place for which they
were written: each beside its digest, small ones with it inside.

A kill leaves a file whole or absent; a power cut, a full disk or a hand may leave one that is neither. So a file is on
disk before its seal is, and one that differs from its seal is none: its maker makes it again.
"""

import logging
from pathlib import Path
from typing import Any

from distill.errors import DataError
from distill.files import digest_file, digest_value, json_text, read_json, write_text

log = logging.getLogger(__name__)


def _seal_of(path: Path) -> Path:
    return path.with_name(f"{path.name.partition('.')[0]}.sha256")


def _place_of(path: Path) -> str:
    """Returns the end of a path, which has the key of the work: blocks of two stages may have one name."""
    return "/".join(path.absolute().parts[-3:])


def _sealed_text(path: Path) -> str:
    return f"{digest_file(path)}  {_place_of(path)}\n"


def seal_file(path: Path) -> None:
    """Seals a file that is on disk; no other in its folder has its name up to the first dot."""
    write_text(_seal_of(path), _sealed_text(path))


def is_whole(path: Path) -> bool:
    """Returns whether a file is there with the bytes that were sealed."""
    seal = _seal_of(path)
    return path.is_file() and seal.is_file() and seal.read_bytes() == _sealed_text(path).encode()


def is_sealed(path: Path) -> bool:
    """Returns whether a file `is_whole`; a damaged one is named in the log."""
    if is_whole(path):
        return True
    seal, is_there = _seal_of(path), path.is_file()
    if is_there or seal.is_file():
        # A kill between the two leaves a file without its seal.
        found = "no file" if not is_there else "others" if seal.is_file() else "no seal"
        log.warning("%s: expected the bytes that %s seals, found %s; made again", path, seal.name, found)
    return False


def sealed_json(path: Path, content: Any) -> str:
    """Returns the text of a small JSON file that is to lie at a path, with the digest of its content and place."""
    return json_text({"sha256": digest_value([_place_of(path), content]), "content": content})


def write_sealed_json(path: Path, content: Any) -> None:
    """Writes a `sealed_json` atomically."""
    write_text(path, sealed_json(path, content))


def read_sealed_json(path: Path) -> Any:
    """Returns the content of a `sealed_json`; None where none is there. A damaged one is named in the log, and none."""
    if not path.is_file():
        return None
    try:
        found = read_json(path)
        if found["sha256"] == digest_value([_place_of(path), found["content"]]):
            return found["content"]
    except (DataError, KeyError, TypeError, RecursionError):
        pass
    log.warning("%s: expected the bytes that were written there, found others; made again", path)
    return None
