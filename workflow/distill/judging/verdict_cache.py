"""The journal of a judge's verdicts."""

from pathlib import Path

from distill.judging.protocol import Verdict
from distill.remote.journal import Journal


class VerdictCache(Journal[Verdict]):
    """Verdicts by the digest of their question; else as `Journal`."""

    def __init__(self, path: Path | str):
        super().__init__(path, Verdict)
