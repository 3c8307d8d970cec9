"""Weights and AdamW moments of a model under DeepSpeed, whole, as safetensors: no pickle, and no trace of ZeRO's cuts.

DeepSpeed keeps the fp32 weights in one of three ways: as the model's own (fp32 without ZeRO), as a copy of each (bf16
without ZeRO), or laid flat by parameter group and cut into one part a process (ZeRO 1 and 2). What is written is the
same in all: three files of whole tensors by parameter name. So it can be read again at another stage, and by another
number of processes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

_WEIGHT = "weight"
_MAPPING = "_hp_mapping"  # of a parameter that ZeRO has laid flat
_MOMENTS = ("exp_avg", "exp_avg_sq")
KINDS = (_WEIGHT, *_MOMENTS)


def path_of(folder: Path, kind: str) -> Path:
    """Returns the file of one kind of tensors."""
    return folder / f"{kind}.safetensors"


class _Piece(NamedTuple):
    """The part of a parameter that this process keeps: `length` elements, from `start` of `master`, `first` of its own.

    `master`: the fp32 tensor that AdamW updates, which may hold other parameters too.
    """

    master: Tensor
    start: int
    first: int
    length: int

    def of(self, tensor: Tensor) -> Tensor:
        """Returns the part as a view of a tensor that is laid out as `master` is."""
        return tensor.view(-1).narrow(0, self.start, self.length)


class OptimiserState:
    """Reads and writes the state of an AdamW that DeepSpeed has taken over.

    Args:
        model: whose parameters are trained.
        groups: its parameters by AdamW's groups, as before DeepSpeed took them.
        optimizer: the AdamW.
    """

    def __init__(self, model: torch.nn.Module, groups: Sequence[Sequence[Tensor]], optimizer: torch.optim.AdamW):
        self.optimizer, self.parameters = optimizer, dict(model.named_parameters())
        self.is_cut = any(hasattr(weight, _MAPPING) for weight in self.parameters.values())
        masters = {
            weight: master
            for own, group in zip(groups, optimizer.param_groups, strict=True)
            for weight, master in zip(own, group["params"] * (len(own) if self.is_cut else 1), strict=True)
        }
        self._pieces = {name: self._piece(weight, masters[weight]) for name, weight in self.parameters.items()}

    def _piece(self, weight: Tensor, master: Tensor) -> _Piece | None:
        if not self.is_cut:
            return _Piece(master, 0, 0, weight.numel())
        mapping = getattr(weight, _MAPPING)
        if mapping is None:  # all of it lies with other processes
            return None
        own, here = mapping.lp_fragment_address, mapping.hp_fragment_address
        return _Piece(master, here.start, own.start, own.numel)

    @property
    def updates(self) -> int:
        """How many updates AdamW made, of which its bias correction depends."""
        return max((int(own["step"]) for own in self.optimizer.state.values() if own), default=0)

    def save(self, folder: Path) -> None:
        """Writes a file for each kind; every process calls it, the first writes."""
        for kind in KINDS:
            tensors = dict(self._whole(kind))
            if tensors:
                save_file(tensors, path_of(folder, kind))

    def load(self, folder: Path, updates: int) -> None:
        """Takes what `save` wrote, and AdamW's number of updates; every process calls it."""
        state = self.optimizer.state
        state.clear()
        if updates:
            for master in {piece.master for piece in self._pieces.values() if piece}:
                zeros = {kind: torch.zeros_like(master) for kind in _MOMENTS}
                state[master] = {"step": torch.tensor(float(updates))} | zeros
        for kind in KINDS if updates else (_WEIGHT,):
            with safe_open(path_of(folder, kind), "pt") as file, torch.no_grad():
                for name, weight in self.parameters.items():
                    whole, piece = file.get_tensor(name), self._pieces[name]
                    if kind == _WEIGHT:
                        weight.copy_(whole)
                    if piece:
                        part = whole.view(-1).narrow(0, piece.first, piece.length)
                        piece.of(self._kept(piece.master, kind)).copy_(part)

    def _kept(self, master: Tensor, kind: str) -> Tensor:
        """Returns a tensor of one kind in the layout of `master`: itself, or a moment, which is 0 before any update."""
        if kind == _WEIGHT:
            return master.detach()
        return self.optimizer.state[master][kind] if master in self.optimizer.state else torch.zeros_like(master)

    def _whole(self, kind: str) -> Iterator[tuple[str, Tensor]]:
        """Yields whole tensors by name, on the CPU of the first process; on others nothing, but they must call it."""
        for name, weight in self.parameters.items():
            piece = self._pieces[name]
            if not self.is_cut:
                assert piece, "each process has all of it"
                whole = self._kept(piece.master, kind)
            else:
                whole = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
                if piece:
                    own = piece.of(self._kept(piece.master, kind))
                    whole.view(-1).narrow(0, piece.first, piece.length).copy_(own)
                if torch.distributed.get_world_size() > 1:
                    # As integers, whose sum with 0 is the same bits: of floats -0.0 would come back as 0.0.
                    torch.distributed.reduce(whole.view(torch.int32), dst=0)
            if torch.distributed.get_rank() == 0:
                yield name, whole.cpu().contiguous()
