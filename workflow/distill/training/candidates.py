"""The candidate-set file: the teacher's top-p ids along its samples, built once for p_max, read by any smaller p."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from distill.data.batches import pad_sequences
from distill.errors import DataError
from distill.losses.candidate_sets import CandidateSets, top_p_sets
from distill.losses.terms import softmax_entropy
from distill.training.task import Forward

FILE, STATISTICS = "candidates.safetensors", "statistics.json"
SORTED_TOKENS = 50
"""Length of the curve of sorted token mass (paper, Figure 1)."""


def _acting(sequences: Sequence[tuple[list[int], list[int]]]) -> torch.Tensor:
    """Returns which of the states s_0 .. s_L of each response, end to end, are followed by a token of it."""
    lengths = torch.tensor([len(response) for _, response in sequences])
    acting = torch.ones(int((lengths + 1).sum()), dtype=torch.bool)
    acting[(lengths + 1).cumsum(0) - 1] = False
    return acting


@torch.no_grad()
def build_candidate_sets(
    forward: Forward, sequences: Sequence[tuple[list[int], list[int]]], p_max: float, batch: int, device: str
) -> tuple[CandidateSets, float, list[float]]:
    """Returns the teacher's sets at s_0 .. s_L of each (prompt, response), end to end, its mean entropy there in nats,
    and the mean mass of its k most probable tokens, k = 1 .. 50, over the states that a token follows.
    """
    parts, entropy, sorted_mass = [], 0.0, 0.0
    for start in range(0, len(sequences), batch):
        padded = pad_sequences(sequences[start : start + batch], device, with_final_state=True)
        logits = forward(padded.input_ids, padded.attention_mask, padded.rows).float()
        probs = logits.softmax(-1)
        parts.append(top_p_sets(probs, p_max).to("cpu"))
        entropy += softmax_entropy(logits).sum().item()
        largest = probs.topk(min(SORTED_TOKENS, probs.shape[-1])).values.cpu()
        sorted_mass += largest[_acting(sequences[start : start + batch])].sum(0, dtype=torch.float64)
    sets, actions = CandidateSets.cat(parts), sum(len(response) for _, response in sequences)
    return sets, entropy / len(sets), (sorted_mass.cumsum(0) / actions).tolist()


def set_statistics(sets: CandidateSets, sequences: Sequence[tuple[list[int], list[int]]], p: float) -> dict[str, float]:
    """Returns what the sets look like at one p: median and mean size, share of singletons, p_eff, and the share of the
    teacher's own tokens that fall outside.
    """
    cut = sets.prefix(p)
    acting = _acting(sequences)
    actions = torch.full((len(cut),), -1)
    actions[acting] = torch.tensor([token for _, response in sequences for token in response])
    inside = cut.contains(actions)[acting]
    sizes = cut.sizes[acting].double()
    return {
        "p": p,
        "states": int(acting.sum()),
        "median_size": sizes.median().item(),
        "mean_size": sizes.mean().item(),
        "singletons": (sizes == 1).double().mean().item(),
        "p_eff": cut.mass[acting].mean().item(),
        "out_of_set": 1 - inside.double().mean().item(),
    }


def save_candidate_sets(folder: Path, sets: CandidateSets, lengths: Sequence[int], metadata: dict[str, str]) -> None:
    """Writes the sets as one safetensors file.

    Tensors: `indptr` int64 [states + 1], `ids` (uint16 up to 65,536 tokens, else uint32) in descending probability,
    `probs` float32, `lengths` int64 [samples] (a sample of length L has L + 1 states). Metadata: p_max and the digests
    of teacher and samples.
    """
    ids = sets.ids.numpy()
    save_file(
        {
            "indptr": sets.indptr.numpy(),
            "ids": ids.astype(np.uint16 if ids.max(initial=0) < 2**16 else np.uint32),
            "probs": sets.probs.float().numpy(),
            "lengths": np.asarray(lengths, dtype=np.int64),
        },
        folder / FILE,
        metadata={"p_max": repr(sets.p), **metadata},
    )


def load_candidate_sets(folder: Path, samples: str, lengths: Sequence[int], p: float) -> list[CandidateSets]:
    """Returns one `CandidateSets` of length L + 1 per sample, cut to `p`.

    Args:
        folder: the sealed folder.
        samples: digest of the samples that the sets must have been computed along.
        lengths: response length of each sample.
        p: at most p_max.

    Raises:
        DataError: the file belongs to other samples.
    """
    with safe_open(folder / FILE, "np") as file:
        metadata = file.metadata()
    tensors = load_file(folder / FILE)
    if metadata["samples"] != samples or tensors["lengths"].tolist() != list(lengths):
        raise DataError(
            f"{folder / FILE}: expected sets for the {len(lengths)} samples {samples[:12]}, found those of others; "
            "delete the folder and rerun build_candidates"
        )
    sets = CandidateSets(
        torch.from_numpy(tensors["indptr"]),
        torch.from_numpy(tensors["ids"].astype(np.int64)),
        torch.from_numpy(tensors["probs"]),
        float(metadata["p_max"]),
    ).prefix(p)
    ends = np.cumsum([length + 1 for length in lengths])
    return [sets[int(end - length - 1) : int(end)] for end, length in zip(ends, lengths, strict=True)]
