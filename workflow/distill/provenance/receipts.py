"""Receipts of finished folders: what is sealed and recorded for a key is accepted, not made again.

Snakemake deletes an artifact's manifest and record before each try, also those of a job that ended after its Snakemake
had died; the bytes stay. One receipt an artifact, `STATE/receipts/ARTIFACT.json`, holds manifest and
record for the key that they were made for; the next artifact of the name replaces it.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.files import CARD, MANIFEST, digest_file, list_files, load_manifest, read_json, write_json
from distill.provenance.record import record_path
from distill.sealed_files import read_sealed_json, write_sealed_json

RECEIPTS = "receipts"


@dataclass(frozen=True)
class Receipt:
    """Where the receipt of an artifact lies, and the key that it must have.

    Attributes:
        path: the receipt, `STATE/receipts/NAME.json`.
        artifact: the sealed folder.
        key: digest of rule, code, lock, settings, inputs and output.
    """

    path: Path
    artifact: Path
    key: str

    @property
    def _state(self) -> Path:
        return self.path.parents[1]

    def write(self, spent: list[Path]) -> None:
        """Writes the receipt of the finished artifact; once it is on disk, its state may go.

        Args:
            spent: the folders of state that are removed next.
        """
        names = [str(folder.relative_to(self._state)) for folder in spent]
        content = {"key": self.key, "manifest": load_manifest(self.artifact / MANIFEST), "spent": names}
        content |= {"record": read_json(record_path(self.artifact))}
        write_sealed_json(self.path, content)

    def _read(self) -> dict[str, Any] | None:
        """Returns what the receipt holds for this key; None without one, or where its own bytes are damaged."""
        receipt = read_sealed_json(self.path)
        return receipt if receipt and receipt["key"] == self.key else None

    def _is_whole(self, receipt: dict[str, Any]) -> bool:
        files = {str(path.relative_to(self.artifact)): path for path in list_files(self.artifact)}
        manifest = receipt["manifest"]
        if CARD not in manifest:
            files.pop(CARD, None)
        return files.keys() == manifest.keys() and all(
            path.stat().st_size == manifest[name]["size"] and digest_file(path) == manifest[name]["sha256"]
            for name, path in files.items()
        )

    def holds(self) -> bool:
        """Returns whether the folder has, byte for byte, what the receipt of this key lists, and at most a card."""
        receipt = self._read()
        return receipt is not None and self._is_whole(receipt)

    def accept(self, tries: int) -> bool:
        """Puts manifest and record back beside the bytes that they belong to; returns whether that could be done.

        The record is that of the job that made the bytes; it tells in addition that the stage was started again. A
        receipt of bytes that are no longer there goes.

        Args:
            tries: how often the stage was started.
        """
        receipt = self._read()
        if receipt is None:
            return False
        if not self._is_whole(receipt):
            self.path.unlink()
            return False
        receipt["record"]["predicate"]["runDetails"] |= {"tries": tries, "resumed": True}
        write_json(self.artifact / MANIFEST, receipt["manifest"])
        write_json(record_path(self.artifact), receipt["record"])
        for name in receipt["spent"]:
            shutil.rmtree(self._state / name, ignore_errors=True)
        return True
