"""Paid verdicts on disk, so that a killed judging run continues where it was and pays for nothing twice."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from distill.errors import DataError
from distill.files import read_jsonl
from distill.judging.protocol import Verdict


class VerdictCache:
    """An append-only JSONL journal of charges and finished verdicts, for one process at a time.

    A line is {"usd": charge} or {"key": digest of the request, "verdict": {...}}; a last line cut off by a kill is
    dropped on opening.

    Attributes:
        spent_usd: the sum of all charges, those of earlier runs included.

    Raises:
        DataError: a line other than a torn last one is malformed.
    """

    def __init__(self, path: Path | str):
        self._path = Path(path)
        self._verdicts: dict[str, Verdict] = {}
        self.spent_usd = 0.0
        if not self._path.exists():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self._path, whole)
        for number, row in read_jsonl(self._path):
            try:
                if "usd" in row:
                    self.spent_usd += row["usd"]
                else:
                    self._verdicts[row["key"]] = Verdict(**row["verdict"])
            except (KeyError, TypeError) as error:
                raise DataError(
                    f"{self._path}:{number}: expected a charge or a verdict, found a row without it ({error}); "
                    "delete this line to judge its item again"
                ) from error

    def get(self, key: str) -> Verdict | None:
        """Returns the finished verdict of a request, None if there is none."""
        return self._verdicts.get(key)

    def put(self, key: str, verdict: Verdict) -> None:
        """Keeps a finished verdict; on return it is on disk."""
        self._append({"key": key, "verdict": asdict(verdict)})
        self._verdicts[key] = verdict

    def charge(self, usd: float) -> None:
        """Adds what one request cost."""
        self._append({"usd": usd})
        self.spent_usd += usd

    def _append(self, row: dict) -> None:
        with open(self._path, "ab") as file:
            file.write(json.dumps(row).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
