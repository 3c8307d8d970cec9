"""Teacher responses as transitions, and which of them an objective counts.

States are flat: sequence b with L_b actions contributes the L_b + 1 rows s_0 .. s_L, one sequence after another.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from distill.errors import DataError
from distill.losses.candidate_sets import CandidateSets
from distill.methods.bd.section import Bellman


@dataclass(frozen=True)
class Trajectories:
    """Teacher responses laid end to end: N transitions of B sequences over N + B states.

    `actions`: int64 [N], EOS included where it was produced. `lengths`: int64 [B], actions of each sequence.
    `done`: bool [B], true where the response ends with EOS, false where it was cut.
    """

    actions: Tensor
    lengths: Tensor
    done: Tensor

    def __getitem__(self, sequences: slice) -> "Trajectories":
        """Select a contiguous range of sequences."""
        first, last, _ = sequences.indices(len(self.lengths))
        ends = torch.nn.functional.pad(self.lengths.cumsum(0), (1, 0))
        return Trajectories(self.actions[ends[first] : ends[last]], self.lengths[first:last], self.done[first:last])

    @cached_property
    def sequence(self) -> Tensor:
        """Sequence of each transition, int64 [N]."""
        return torch.repeat_interleave(self.lengths, output_size=len(self.actions))

    @cached_property
    def position(self) -> Tensor:
        """Time t of each transition within its sequence, int64 [N]."""
        starts = self.lengths.cumsum(0) - self.lengths
        return torch.arange(len(self.actions), device=self.actions.device) - starts[self.sequence]

    @cached_property
    def state(self) -> Tensor:
        """Row of s_t for each transition, int64 [N]; s_{t+1} is the row after, as each sequence adds one state more."""
        return torch.arange(len(self.actions), device=self.actions.device) + self.sequence

    @cached_property
    def last(self) -> Tensor:
        """Whether a transition is the last of its sequence, bool [N]."""
        return self.position == self.lengths[self.sequence] - 1

    @cached_property
    def end(self) -> Tensor:
        """Whether a transition is an EOS that ends its sequence, bool [N]."""
        return self.last & self.done[self.sequence]

    def check(self, states: int, candidates: CandidateSets | None) -> None:
        """Raise DataError unless actions, lengths, the rows of logits and candidate sets describe the same states."""
        transitions, expected = int(self.lengths.sum()), len(self.actions) + len(self.lengths)
        found = (len(self.actions), states, expected if candidates is None else len(candidates))
        if found != (transitions, expected, expected):
            raise DataError(
                f"trajectories: expected {transitions} actions, {expected} rows of logits and {expected} candidate "
                f"sets (one more state than actions a sequence), found {found}; lay out s_0..s_L of every sequence"
            )

    def inside(self, candidates: CandidateSets | None) -> Tensor:
        """Whether each sampled action is in the teacher's set of its state, bool [N]; None holds every token."""
        return torch.ones_like(self.end) if candidates is None else self.place_in(candidates) >= 0

    def place_in(self, candidates: CandidateSets) -> Tensor:
        """Entry of each sampled action among the teacher's sets, int64 [N]; -1 outside its set."""
        actions = self.actions.new_full((len(candidates),), -1)
        actions[self.state] = self.actions
        return candidates.places(actions)[self.state]


def counted(trajectories: Trajectories, in_set: Tensor, options: Bellman) -> tuple[Tensor, Tensor]:
    """Tell which transitions exist for an objective (`valid`), and which of them enter its sums (`kept`), bool [N]."""
    if options.objective == "released":
        return ~trajectories.last, ~trajectories.last
    valid = torch.ones_like(trajectories.end)
    if options.eos_action == "exclude":
        valid = valid & ~trajectories.end
    if options.truncation == "drop_last":
        valid = valid & (trajectories.end | ~trajectories.last)
    drops = options.oos_action == "drop" and not options.remainder
    return valid, valid & in_set if drops else valid


def transition_weights(
    kept: Tensor, trajectories: Trajectories, options: Bellman, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Compute the weight of each transition in the sums, [N], and the weight of the whole, by the reduction.

    `sequence`: sums of per-sequence weighted means, sequences without a kept transition left out.
    """
    weights = kept.to(dtype)
    if options.objective != "released" and options.occupancy_weights:
        weights = weights * options.gamma ** trajectories.position.to(dtype)
    if options.reduction == "token":
        return weights, weights.sum()
    zero = torch.zeros(len(trajectories.lengths), dtype=dtype, device=weights.device)
    mass = zero.index_add(0, trajectories.sequence, weights)
    return weights / mass.clamp(min=torch.finfo(dtype).tiny)[trajectories.sequence], (mass > 0).sum().to(dtype)


def loss_weight(trajectories: Trajectories, candidates: CandidateSets | None, options: Bellman) -> Tensor:
    """Compute the weight that an objective will return, from the data alone.

    A trainer needs it before the first forward pass, to divide each micro-batch by the weight of the global batch.
    """
    _, kept = counted(trajectories, trajectories.inside(candidates), options)
    return transition_weights(kept, trajectories, options, torch.float32)[1]
