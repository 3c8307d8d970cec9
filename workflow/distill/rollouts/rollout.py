"""Sampled responses with what their models said of them, in memory and on disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

_IDS = ("prompt_ids", "response_ids")


@dataclass(frozen=True)
class Rollout:
    """One sampled response of T tokens.

    `scores`: [T, ...] each, what student and teacher said of its states when it was sampled, by name.
    """

    prompt_ids: list[int]
    response_ids: list[int]
    scores: dict[str, Tensor]


def join_scores(rollouts: Sequence[Rollout], name: str, device: torch.device | str) -> Tensor:
    """Returns one score of all tokens, end to end."""
    return torch.cat([rollout.scores[name] for rollout in rollouts]).to(device)


def save_rollouts(path: Path, rollouts: Sequence[Rollout]) -> None:
    """Writes rollouts of the same scores as one safetensors file: ids, lengths and scores, end to end."""
    tensors: dict[str, Tensor] = {}
    for name in _IDS:
        ids = [getattr(rollout, name) for rollout in rollouts]
        tensors[name] = torch.tensor([token for own in ids for token in own], dtype=torch.int64)
        tensors[f"{name}_lengths"] = torch.tensor([len(own) for own in ids], dtype=torch.int64)
    for name in rollouts[0].scores if rollouts else ():
        tensors[f"score:{name}"] = join_scores(rollouts, name, "cpu")
    save_file(tensors, path)


def load_rollouts(path: Path) -> list[Rollout]:
    """Reads what `save_rollouts` wrote."""
    tensors = load_file(path)
    lengths = {name: tensors[f"{name}_lengths"].tolist() for name in _IDS}
    prompts, responses = ([own.tolist() for own in tensors[name].split(lengths[name])] for name in _IDS)
    scores = {
        name.removeprefix("score:"): own.split(lengths["response_ids"])
        for name, own in tensors.items()
        if name.startswith("score:")
    }
    return [
        Rollout(prompt, response, {name: own[place] for name, own in scores.items()})
        for place, (prompt, response) in enumerate(zip(prompts, responses, strict=True))
    ]
