"""The teacher's top-p ids along its samples: built once for p_max, part by part, and read sample by sample at any p."""

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from distill.candidates.statistics import add_statistics
from distill.errors import DataError
from distill.files import atomic_write, canonical_json
from distill.losses.candidate_sets import CandidateSets, nucleus, sort_head
from distill.losses.states import ChunkLogits
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences
from distill.pieces import ALONE, Share
from distill.sealed_files import is_sealed, seal_file
from distill.stopping import check, deferred

PART_SAMPLES = 256
"""Samples a file, rounded to whole micro-batches: what is held in memory, and what a kill may cost."""
_KEY = "candidate_sets"
_TYPES = {"indptr": ("I64",), "ids": ("U16", "U32"), "probs": ("F32",), "lengths": ("I64",)}
_FIX = "delete the folder and rerun build_candidates"
SORTED_TOKENS = 50
"""Length of the curve of sorted token mass (paper, Figure 1)."""


def shard_range(samples: int, batch: int, shard: int, shards: int) -> range:
    """Returns a shard's samples: whole micro-batches, so that the sets are the same however many shards there are."""
    batches = -(-samples // batch)
    first, end = (batches * number // shards * batch for number in (shard, shard + 1))
    return range(first, min(end, samples))


def build_candidate_sets(
    teacher: PackedModel,
    sequences: Iterable[tuple[list[int], list[int]]],
    folder: Path,
    *,
    p_max: float,
    reported: Sequence[float],
    batch: int,
    device: torch.device | str,
    metadata: dict[str, str],
    progress: Callable[[int], object] = lambda samples: None,
    share: Share = ALONE,
) -> list[Path]:
    """Writes the sets at s_0 .. s_L of each sample into files of a few samples each; whole ones are kept.

    A request to stop waits for the file under way.

    Args:
        teacher: in eval mode.
        sequences: (prompt ids, response ids), read as they are needed.
        folder: of this shard's files; it outlives a kill.
        p_max: the p of the sets.
        reported: each p of the statistics, at most p_max.
        batch: sequences a forward pass.
        device: where the teacher is.
        metadata: digests of teacher and samples, kept in each file.
        progress: called with the number of samples done since its last call.
        share: which of the files this process makes.

    Returns:
        The files in order, of which only those of this process need be there.
    """
    remaining, paths = iter(sequences), list[Path]()
    while part := list(islice(remaining, max(1, PART_SAMPLES // batch) * batch)):
        paths.append(folder / f"{len(paths):06}.safetensors")
        if not share.has(len(paths) - 1):
            continue
        if is_sealed(paths[-1]):
            progress(len(part))
            continue
        with deferred():
            built = []
            for start in range(0, len(part), batch):
                own = part[start : start + batch]
                built.append(_build(teacher, own, p_max, reported, device))
                progress(len(own))
            sets, counts = zip(*built, strict=True)
            lengths = [len(response) for _, response in part]
            save_candidate_sets(paths[-1], CandidateSets.cat(sets), lengths, teacher.vocabulary, counts, metadata)
            seal_file(paths[-1])
        check()
    return paths


@torch.no_grad()
def _build(
    teacher: PackedModel,
    sequences: list[tuple[list[int], list[int]]],
    p_max: float,
    reported: Sequence[float],
    device: torch.device | str,
) -> tuple[CandidateSets, dict]:
    """Returns the sets of a micro-batch and their counts; logits exist for one chunk of states at a time."""
    batch = pack_sequences(sequences, device, with_final_state=True)
    states, acting = teacher.states(batch), _acting(batch.response_lengths)
    parts, entropy, logits = [], 0.0, ChunkLogits(states)
    sorted_mass = torch.zeros((), dtype=torch.float64)
    for chunk in states.chunks():
        probs = logits[chunk].softmax(-1)
        head, ids = sort_head(probs)
        parts.append(nucleus(probs, head, ids, p_max).to("cpu"))
        entropy += torch.special.entr(probs).sum(-1).sum(dtype=torch.float64).item()
        sorted_mass = sorted_mass + head[:, :SORTED_TOKENS].cpu()[acting[chunk]].sum(0, dtype=torch.float64)
    sets, actions = CandidateSets.cat(parts), batch.actions.cpu()
    counts = {
        "states": len(sets),
        "tokens": len(actions),
        "entropy": entropy,
        "sorted_mass": sorted_mass.tolist(),
        "sets": {str(p): count_sets(sets.prefix(p), acting, actions) for p in reported},
    }
    return sets, counts


def _acting(lengths: Sequence[int]) -> torch.Tensor:
    """Returns which of the states s_0 .. s_L of each response, end to end, are followed by a token of it."""
    states = torch.tensor(lengths) + 1
    acting = torch.ones(int(states.sum()), dtype=torch.bool)
    acting[states.cumsum(0) - 1] = False
    return acting


def count_sets(sets: CandidateSets, acting: torch.Tensor, actions: torch.Tensor) -> dict:
    """Returns what sets look like at the states that a token follows: {sizes, mass, inside} of a shard's statistics.

    Args:
        sets: of all states.
        acting: bool [states], the states that a token follows.
        actions: these tokens.
    """
    sizes, numbers = sets.sizes[acting].unique(return_counts=True)
    inside = sets.contains(torch.full((len(sets),), -1).masked_scatter(acting, actions))
    return {
        "sizes": {str(size): number for size, number in zip(sizes.tolist(), numbers.tolist(), strict=True)},
        "mass": sets.mass[acting].sum().item(),
        "inside": int(inside.sum()),
    }


def save_candidate_sets(
    path: Path,
    sets: CandidateSets,
    lengths: Sequence[int],
    vocabulary: int,
    counts: Iterable[dict],
    metadata: dict[str, str],
) -> None:
    """Writes a part of the sets as one safetensors file.

    Tensors: `indptr` int64 [states + 1], `ids` (uint16 for up to 65,536 tokens, else uint32) in descending probability,
    `probs` float32, `lengths` int64 [samples] (a sample of length L has L + 1 states). Metadata, as JSON under one key:
    p_max, what is given, and `statistics`, the counts of this part.
    """
    tensors = {
        "indptr": sets.indptr.numpy(),
        "ids": sets.ids.numpy().astype(np.uint16 if vocabulary <= 2**16 else np.uint32),
        "probs": sets.probs.float().numpy(),
        "lengths": np.asarray(lengths, dtype=np.int64),
    }
    statistics = add_statistics([*counts, {"bytes": sum(tensor.nbytes for tensor in tensors.values())}])
    with atomic_write(path) as temporary:
        # Several keys would stand in any order, and equal sets have equal bytes.
        save_file(tensors, temporary, {_KEY: canonical_json({"p_max": sets.p, "statistics": statistics, **metadata})})


def read_metadata(file: safe_open) -> dict[str, Any]:
    """Returns what a file says of itself: p_max, statistics, digests; {} for one of another kind."""
    try:
        found = json.loads((file.metadata() or {}).get(_KEY, "{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_statistics(path: Path) -> dict:
    """Returns the counts of a part."""
    return read_metadata(safe_open(path, "np"))["statistics"]


class StoredSets:
    """The sets of many samples, which stay on disk; what is asked for is read and cut to one p."""

    def __init__(self, files: dict[Path, safe_open], lengths: Sequence[np.ndarray], p_max: float, p: float):
        self._paths, self._files, self._p_max, self._p = [*files], [*files.values()], p_max, p
        self._rows = [np.append(0, np.cumsum(own + 1)) for own in lengths]
        self._ends = np.cumsum([len(own) for own in lengths], dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of samples."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> CandidateSets:
        """Read the sets of one sample of length L: L + 1 rows."""
        return self.take([index])

    def take(self, indices: Sequence[int], with_final_state: bool = True) -> CandidateSets:
        """Read the sets of several samples, end to end; L + 1 rows a sample, or those that a token follows, L."""
        read = (self._read(range(len(self))[index], with_final_state) for index in indices)
        sizes, ids, probs = zip(*read, strict=True)
        return CandidateSets(
            torch.from_numpy(np.append(0, np.concatenate(sizes).cumsum())),
            torch.from_numpy(np.concatenate(ids).astype(np.int64)),
            torch.from_numpy(np.concatenate(probs)),
            self._p_max,
        ).prefix(self._p)

    def _read(self, index: int, with_final_state: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        part = int(np.searchsorted(self._ends, index, side="right"))
        file, rows = self._files[part], self._rows[part]
        place = index - int(self._ends[part]) + len(rows) - 1
        indptr = file.get_slice("indptr")[int(rows[place]) : int(rows[place + 1]) + with_final_state]
        entries = slice(int(indptr[0]), int(indptr[-1]))
        ids, probs = file.get_slice("ids"), file.get_slice("probs")
        if entries.start < 0 or (np.diff(indptr) < 0).any() or entries.stop > ids.get_shape()[0]:
            raise DataError(
                f"{self._paths[part]}: expected the places of sample {index}'s sets in order, found others; {_FIX}"
            )
        return np.diff(indptr), ids[entries], probs[entries]


def _lengths_of(path: Path, file: safe_open) -> np.ndarray:
    """Returns the response lengths in a file whose tensors fit each other, without reading the sets.

    Raises:
        DataError: they do not.
    """
    if missing := _TYPES.keys() - file.keys():
        raise DataError(f"{path}: expected the tensors of candidate sets, found no {min(missing)}; {_FIX}")
    slices = {name: file.get_slice(name) for name in _TYPES}
    shapes = {name: found.get_shape() for name, found in slices.items()}
    lengths = file.get_tensor("lengths")
    if (
        any(found.get_dtype() not in _TYPES[name] or len(shapes[name]) != 1 for name, found in slices.items())
        or (lengths < 0).any()
        or shapes["indptr"] != [int(lengths.sum()) + len(lengths) + 1]
        or shapes["ids"] != shapes["probs"]
    ):
        raise DataError(f"{path}: expected tensors that fit each other, found shapes {shapes}; {_FIX}")
    return lengths


def load_candidate_sets(
    folders: Sequence[Path], samples: str, lengths: Sequence[int], p: float | None = None
) -> StoredSets:
    """Returns one `CandidateSets` of length L + 1 per sample, cut to `p`; it is read when it is asked for.

    Args:
        folders: the sealed folders of all shards, in order.
        samples: digest of the samples that the sets must have been computed along.
        lengths: response length of each sample.
        p: at most p_max; None for p_max.

    Raises:
        DataError: a file is broken, belongs to other samples, or was built for a smaller p.
    """
    files, found = dict[Path, safe_open](), []
    p_max: Any = 1.0
    for path in (path for folder in folders for path in sorted(folder.glob("*.safetensors"))):
        try:
            file = safe_open(path, "np")
        except SafetensorError as error:
            raise DataError(f"{path}: expected a whole file of candidate sets, found {error}; {_FIX}") from error
        metadata = read_metadata(file)
        if metadata.get("samples") != samples:
            raise DataError(f"{path}: expected sets for the samples {samples[:12]}, found those of others; {_FIX}")
        p_max = metadata.get("p_max")
        if not (isinstance(p_max, float | int) and 0 < p_max <= 1):
            raise DataError(f"{path}: expected p_max in (0, 1], found {p_max!r}; {_FIX}")
        if p is not None and p > p_max:
            raise DataError(f"{path}: expected p <= {p_max}, found {p}; compute the sets again with a larger p_max")
        files[path] = file
        found.append(_lengths_of(path, file))
    if [length for own in found for length in own.tolist()] != list(lengths):
        places = ", ".join(map(str, folders))
        raise DataError(
            f"{places}: expected sets for the {len(lengths)} samples {samples[:12]}, found those of others; {_FIX}"
        )
    return StoredSets(files, found, p_max, p_max if p is None else p)
