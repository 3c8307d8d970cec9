"""Top-p candidate sets of a teacher in ragged form: computed once for p_max, cut to any smaller p."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.errors import DataError
from distill.losses.states import upcast

# Cumulative mass is counted in integers, so that it is the same in dense and ragged form and on every device;
# one unit is 2^-52, as fine as float64. A running total that wraps does no harm: only differences are used.
_UNIT = 2.0**52

_REST = 2.0**-24  # the least that a set leaves outside: what 1 - mass is below it, float32 has rounded

HEAD = 64
"""Tokens a row that are sorted at first."""


@dataclass(frozen=True)
class CandidateSets:
    """One set of token ids a row, in descending teacher probability (A_p of BD; the token that crosses p is in).

    `indptr`: int64 [rows + 1], row r holds entries indptr[r]:indptr[r + 1]. `ids`: integer [entries].
    `probs`: float32 or float64 [entries], the teacher's probabilities. `p`: the p the sets were computed for.
    """

    indptr: Tensor
    ids: Tensor
    probs: Tensor
    p: float

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.indptr) - 1

    def __getitem__(self, rows: slice) -> "CandidateSets":
        """Select a contiguous range of rows, `sets[start:stop]`."""
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise DataError(
                f"candidate sets: expected a contiguous range of rows, found step {step}; use sets[start:stop]"
            )
        indptr = self.indptr[start : max(start, stop) + 1]
        entries = slice(int(indptr[0]), int(indptr[-1]))
        return CandidateSets(indptr - indptr[0], self.ids[entries], self.probs[entries], self.p)

    @classmethod
    def cat(cls, parts: Sequence["CandidateSets"]) -> "CandidateSets":
        """Concatenate sets row after row; all parts must share p."""
        if len({part.p for part in parts}) != 1:
            found = [part.p for part in parts]
            raise DataError(f"candidate sets: expected parts of one p, found {found}; cut them with prefix first")
        sizes = torch.cat([part.sizes for part in parts])
        return cls(_indptr(sizes), torch.cat([s.ids for s in parts]), torch.cat([s.probs for s in parts]), parts[0].p)

    @property
    def sizes(self) -> Tensor:
        """Set size of each row, int64 [rows]."""
        return self.indptr.diff()

    @property
    def rows(self) -> Tensor:
        """Row of each entry, int64 [entries]."""
        return torch.repeat_interleave(self.sizes, output_size=len(self.ids))

    @property
    def mass(self) -> Tensor:
        """Teacher mass p_eff of each row, float64 [rows]; at least p."""
        zero = torch.zeros(len(self), dtype=torch.float64, device=self.probs.device)
        return zero.index_add(0, self.rows, self.probs.double())

    def rest(self, vocab: int) -> Tensor:
        """Teacher mass outside each row's set, 1 - p_eff, float64 [rows].

        0 where the set holds all `vocab` tokens and 2^-24 at least elsewhere, since probabilities stored in float32 may
        add up to 1 before the last token.
        """
        return (1 - self.mass).clamp(min=_REST).masked_fill(self.sizes == vocab, 0.0)

    def prefix(self, p: float) -> "CandidateSets":
        """Cut every row to the set of a smaller p; equals computing the sets at that p directly."""
        if p > self.p:
            raise DataError(
                f"candidate sets: expected p <= {self.p}, found {p}; compute the sets again with a larger p_max"
            )
        before = _mass_before(self.probs)
        keep = _in_nucleus(before - before[self.indptr[:-1]].repeat_interleave(self.sizes), p)
        return CandidateSets(_indptr(keep)[self.indptr], self.ids[keep], self.probs[keep], p)

    def to_mask(self, vocab: int) -> Tensor:
        """Membership as bool [rows, vocab]."""
        mask = torch.zeros(len(self), vocab, dtype=torch.bool, device=self.ids.device)
        mask[self.rows, self.ids.long()] = True
        return mask

    def places(self, actions: Tensor) -> Tensor:
        """Entry of actions[r] in row r, int64 [rows]; -1 where the row does not hold it."""
        rows, found = self.rows, torch.full_like(self.indptr[1:], -1)
        (hits,) = torch.nonzero(self.ids == actions[rows], as_tuple=True)
        found[rows[hits]] = hits
        return found

    def contains(self, actions: Tensor) -> Tensor:
        """Whether row r holds actions[r], bool [rows]."""
        return self.places(actions) >= 0

    def to(self, device: torch.device | str) -> "CandidateSets":
        """Move all tensors to a device."""
        return CandidateSets(self.indptr.to(device), self.ids.to(device), self.probs.to(device), self.p)


def top_p_sets(probs: Tensor, p: float, head: int = HEAD) -> CandidateSets:
    """Take the nucleus of each row: a token stays iff the mass strictly before it is < p; p >= 1 keeps all.

    `probs`: [rows, vocab], normalised. Order is descending probability, lower id first among equals. Only the `head`
    most probable tokens are sorted; rows whose nucleus may reach beyond them are taken again with 8 times as many.
    """
    probs = upcast(probs)
    return nucleus(probs, *sort_head(probs, head if p < 1 else probs.shape[-1]), p)


def sort_head(probs: Tensor, head: int = HEAD) -> tuple[Tensor, Tensor]:
    """Sort the most probable tokens of each row: probabilities and ids, [rows, head] (all where there are fewer).

    Order is descending probability, lower id first among equals; which of several equals come last is not defined.
    """
    if head >= probs.shape[-1]:
        return probs.sort(dim=-1, descending=True, stable=True)
    by_id = probs.topk(head, sorted=False).indices.sort(-1).values
    values, order = probs.gather(-1, by_id).sort(dim=-1, descending=True, stable=True)
    return values, by_id.gather(-1, order)


def nucleus(probs: Tensor, values: Tensor, ids: Tensor, p: float) -> CandidateSets:
    """Take the nucleus of each row of `probs` (float32 or float64), whose sorted head is known (`sort_head`)."""
    head, keep = values.shape[-1], _in_nucleus(_mass_before(values), p)
    # Equals of the last value may be others than those with the lowest ids, so none of them may be kept.
    wider = (keep & (values == values[:, -1:])).any(-1)
    if head == probs.shape[-1] or not wider.any():
        return CandidateSets(_indptr(keep.sum(-1)), ids[keep], values[keep], p)
    again = top_p_sets(probs[wider], p, 8 * head)
    keep[wider] = False
    sizes = keep.sum(-1).index_put((wider,), again.sizes)
    is_wider = wider.repeat_interleave(sizes)
    joined = ids.new_empty(len(is_wider)), values.new_empty(len(is_wider))
    for whole, own, other in zip(joined, (ids, values), (again.ids, again.probs), strict=True):
        whole[is_wider], whole[~is_wider] = other, own[keep]
    return CandidateSets(_indptr(sizes), *joined, p)


def _mass_before(sorted_probs: Tensor) -> Tensor:
    units = (sorted_probs.double() * _UNIT).round().long()
    return units.cumsum(-1) - units


def _in_nucleus(mass_before: Tensor, p: float) -> Tensor:
    return mass_before < math.ceil(p * _UNIT) if p < 1 else torch.ones_like(mass_before, dtype=torch.bool)


def _indptr(sizes: Tensor) -> Tensor:
    return torch.nn.functional.pad(sizes.cumsum(0), (1, 0))
