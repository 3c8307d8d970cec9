"""Paid answers on disk, so that a killed stage continues where it was and pays for nothing twice."""

import fcntl
import json
import logging
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from distill.files import atomic_write, canonical_json, digest_value, fixable_os_errors
from distill.sealed_files import read_sealed_json, sealed_json

log = logging.getLogger(__name__)
Kind = TypeVar("Kind", bound=Any)


@dataclass(frozen=True)
class Batch:
    """Requests that went out together: their keys, what they may cost, and the server's name for them, if known."""

    keys: tuple[str, ...]
    usd: float
    id: str | None = None


class Journal(Generic[Kind]):
    """An append-only JSONL journal of requests, charges and finished answers; opened by one process at a time.

    A line is {"row": ..., "sha256": its digest}. A row tells that a request was `sent` under a token and what it may
    cost at most, or that it is `back`, what it cost, and the answer by the digest of its question. So money counts
    from before a request goes out: one that was under way at a kill may have been billed, and is charged in full. Each
    row has the sum `spent` until then, which a damaged line does not take along. Such a line is named in the log and
    dropped; its item is asked again. How many lines there are, and what they may have cost, stands beside the journal,
    so that lines that are gone are named, too, and their money counts.

    Args:
        path: the file.
        kind: dataclass of an answer, of what JSON has.

    Attributes:
        spent_usd: the sum of all charges, those of earlier runs included.
        in_flight_usd: what requests under way may cost.
        batches: token to batch, of those whose replies have not come in.
    """

    def __init__(self, path: Path | str, kind: type[Kind]):
        self._path, self._kind = Path(path), kind
        self._count = self._path.with_suffix(".count.json")
        self._clear()

    def _clear(self) -> None:
        self._lines = 0
        self._answers: dict[str, Kind] = {}
        self._sent: dict[str, Batch] = {}
        self.spent_usd = 0.0

    @property
    def in_flight_usd(self) -> float:
        return sum(batch.usd for batch in self._sent.values())

    @property
    def batches(self) -> dict[str, Batch]:
        return {token: batch for token, batch in self._sent.items() if batch.keys}

    def __enter__(self) -> Self:
        """Wait until no other process has the journal open, and read it."""
        with fixable_os_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            self._lock()
            self._read()
        except BaseException:
            os.close(self._folder)
            raise
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._folder)

    def get(self, key: str) -> Kind | None:
        """Returns the finished answer to a question, None if there is none."""
        return self._answers.get(key)

    def send(self, usd: float, keys: tuple[str, ...] = ()) -> str:
        """Notes that a request, or a batch of those on `keys`, goes out and may cost so much; returns its token."""
        token = secrets.token_hex(8)
        self._append({"sent": token, "usd": usd, "keys": keys})
        return token

    def name(self, token: str, batch: str) -> None:
        """Keeps the server's name for a batch."""
        self._append({"named": token, "id": batch})

    def put(self, token: str | None, usd: float, key: str | None = None, answer: Kind | None = None) -> None:
        """Keeps what came back and what it cost; on return it is on disk.

        Args:
            token: what is settled by it; None for a reply out of a batch that has more.
            usd: the charge.
            key, answer: of a finished question.
        """
        row: dict[str, Any] = {"back": token, "usd": usd}
        self._append(row | ({"key": key, "answer": asdict(answer)} if key and answer else {}))

    def _append(self, row: dict) -> None:
        row["spent"] = self.spent_usd + (0.0 if "sent" in row else row.get("usd", 0.0))
        with fixable_os_errors(self._path), open(self._path, "ab") as file:
            whole = file.tell()
            try:
                file.write(_line(row))
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(self._path, whole)  # or the next line would be glued to a piece of this one
                raise
        self._lines += 1
        self._take(row)
        self._write_count()

    def _write_count(self) -> None:
        """Not synced: an older one still counts all but the last lines, and after a kill one cut short is none."""
        counted = {"lines": self._lines, "usd": self.spent_usd + self.in_flight_usd}
        with fixable_os_errors(self._count):
            self._count.write_text(sealed_json(self._count, counted), encoding="utf-8")

    def _take(self, row: dict) -> None:
        self.spent_usd = max(self.spent_usd, row["spent"])
        if "sent" in row:
            self._sent[row["sent"]] = Batch(tuple(row["keys"]), row["usd"])
        elif "named" in row:
            if batch := self._sent.get(row["named"]):
                self._sent[row["named"]] = Batch(batch.keys, batch.usd, row["id"])
        else:
            self._sent.pop(row["back"], None)
            if "key" in row:
                self._answers[row["key"]] = self._kind(**row["answer"])

    def _lock(self) -> None:
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("%s: another process asks the same; waiting for its answers", self._path)
            fcntl.flock(self._folder, fcntl.LOCK_EX)
        except OSError:  # a file system without locks; the stage's state has its owner all the same
            pass

    def _read(self) -> None:
        self._clear()
        counted = read_sealed_json(self._count) or {"lines": 0, "usd": 0.0}
        kept, lines = list[bytes](), list[bytes]()
        with fixable_os_errors(self._path):
            if self._path.exists():
                lines = self._path.read_bytes().splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            try:
                self._take(_row(line))
                kept.append(line)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                log.warning(
                    "%s:%d: expected a line with its digest, found another; its item is asked again", self._path, number
                )
        if len(lines) < counted["lines"]:
            log.warning(
                "%s: expected %d lines, found %d; what is missing is asked again, and its money counts as spent",
                *(self._path, counted["lines"], len(lines)),
            )
        self._lines = len(kept)
        if len(kept) < max(len(lines), counted["lines"]):
            with atomic_write(self._path) as temporary:
                temporary.write_bytes(b"".join(kept))
            self.spent_usd += max(0.0, counted["usd"] - self.spent_usd - self.in_flight_usd)
            self._write_count()
        for token, batch in [*self._sent.items()]:
            if not batch.keys:
                self.put(token, batch.usd)


def _line(row: dict) -> bytes:
    return canonical_json({"row": row, "sha256": digest_value(row)[:32]}).encode() + b"\n"


def _row(line: bytes) -> dict:
    """Returns the row of a whole line; raises ValueError, TypeError or KeyError for any other."""
    content = json.loads(line)
    if not line.endswith(b"\n") or digest_value(content["row"])[:32] != content["sha256"]:
        raise ValueError("damaged")
    return content["row"]
