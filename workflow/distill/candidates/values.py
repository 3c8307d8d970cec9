"""The teacher's soft values along preference pairs, one number a state: built once, part by part, read by pair."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from distill.data.pairs import EncodedPair
from distill.errors import DataError
from distill.files import atomic_write, canonical_json
from distill.losses.preference import soft_values
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences
from distill.pieces import ALONE, Share
from distill.sealed_files import is_sealed, seal_file
from distill.stopping import check, deferred

_KEY = "values"
PART_PAIRS = 1024
"""Pairs a file, rounded to whole batches: what a kill may cost."""


def build_values(
    teacher: PackedModel,
    pairs: Sequence[EncodedPair],
    folder: Path,
    *,
    exponent: float,
    scale: float,
    batch: int,
    device: torch.device | str,
    metadata: dict[str, str],
    progress: Callable[[int], object] = lambda pairs: None,
    share: Share = ALONE,
) -> list[Path]:
    """Writes V(s_0) .. V(s_n) of both sides of each pair into files of a few pairs; whole ones are kept.

    A request to stop waits for the file under way.

    Args:
        teacher: in eval mode.
        pairs: those that runs learn from.
        folder: it outlives a kill.
        exponent, scale: of `soft_values`.
        batch: pairs a forward pass.
        device: where the teacher is.
        metadata: digests of teacher and pairs, kept in each file.
        progress: called with the number of pairs done since its last call.
        share: which of the files this process makes.

    Returns:
        The files in order, of which only those of this process need be there.
    """
    size = max(1, PART_PAIRS // batch) * batch
    paths: list[Path] = []
    for first in range(0, len(pairs), size):
        part = pairs[first : first + size]
        paths.append(folder / f"{len(paths):06}.safetensors")
        if not share.has(len(paths) - 1):
            continue
        if is_sealed(paths[-1]):
            progress(len(part))
            continue
        with deferred():
            values, lengths = [], []
            for start in range(0, len(part), batch):
                own = part[start : start + batch]
                packed = pack_sequences([side for pair in own for side in pair.sides], device, with_final_state=True)
                values.append(soft_values(teacher.states(packed), exponent, scale).cpu())
                lengths += [length + 1 for length in packed.response_lengths]
                progress(len(own))
            tensors = {"values": torch.cat(values), "lengths": torch.tensor(lengths)}
            with atomic_write(paths[-1]) as temporary:
                # Several keys would stand in any order, and equal values have equal bytes.
                save_file(tensors, temporary, {_KEY: canonical_json(metadata)})
            seal_file(paths[-1])
        check()
    return paths


def load_values(folder: Path, pairs_digest: str, pairs: Sequence[EncodedPair]) -> list[Tensor]:
    """Returns V(s_0) .. V(s_n) of each response, chosen and rejected in turn, float32 [n + 1].

    Args:
        folder: what build_values published.
        pairs_digest: sha256 of the manifest of the pairs.
        pairs: what the values belong to.

    Raises:
        DataError: the values belong to other pairs.
    """
    found: list[Tensor] = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            if json.loads(file.metadata()[_KEY])["pairs"] != pairs_digest:
                raise DataError(f"{path}: expected values along the study's pairs, found others; rerun build_values")
            found += file.get_tensor("values").split(file.get_tensor("lengths").tolist())
    lengths = [len(response) + 1 for pair in pairs for _, response in pair.sides]
    if [len(values) for values in found] != lengths:
        raise DataError(f"{folder}: expected values of {len(pairs)} pairs, found others; rerun build_values")
    return found
