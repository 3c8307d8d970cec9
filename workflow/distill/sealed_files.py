"""Files of work in progress that count only where their bytes are those that were written: each beside its digest.

A kill leaves a file whole or absent; a power cut, a full disk or a hand may leave one that is neither. So a file is on
disk before its seal is, and one that differs from its seal is none: its maker makes it again.
"""

import logging
from pathlib import Path

from distill.files import digest_file, write_text

log = logging.getLogger(__name__)


def _seal_of(path: Path) -> Path:
    return path.with_name(f"{path.name.partition('.')[0]}.sha256")


def _sealed_text(path: Path) -> str:
    return f"{digest_file(path)}  {path.name}\n"


def seal_file(path: Path) -> None:
    """Seals a file that is on disk; no other in its folder has its name up to the first dot."""
    write_text(_seal_of(path), _sealed_text(path))


def is_sealed(path: Path) -> bool:
    """Returns whether a file is there with the bytes that were sealed; a damaged one is named in the log."""
    seal = _seal_of(path)
    if not path.is_file():
        found = "no file" if seal.is_file() else None
    elif not seal.is_file():
        found = "no seal"  # as a kill between the two leaves it
    else:
        found = None if seal.read_bytes() == _sealed_text(path).encode() else "others"
        if not found:
            return True
    if found:
        log.warning("%s: expected the bytes that %s seals, found %s; made again", path, seal.name, found)
    return False
