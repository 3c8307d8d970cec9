"""The teacher as its candidate sets along its samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from distill.candidates.store import StoredSets, load_candidate_sets
from distill.files import MANIFEST, digest_file
from distill.losses.cross_entropy import set_nll
from distill.losses.states import States
from distill.losses.terms import LossTerms
from distill.models.packing import PackedBatch
from distill.records import read_samples
from distill.training.context import MethodContext


@dataclass(frozen=True)
class CachedTeacher:
    """The teacher's candidate sets along its samples, renormalised: no teacher in memory."""

    sets: StoredSets
    knows_any_text: ClassVar[bool] = False

    def nll(self, states: States, batch: PackedBatch, places: Sequence[int | None], kd_ratio: float) -> LossTerms:
        """Returns `set_nll`; see `Teacher`."""
        own = [place for place in places if place is not None]
        assert len(own) == len(places), "it is asked along its own samples alone"
        sets = self.sets.take(own, with_final_state=False).to(batch.actions.device)
        return set_nll(states, batch.actions, sets, kd_ratio)


def stored_sets(context: MethodContext, p: float | None = None) -> StoredSets:
    """Returns the teacher's sets along all its samples, cut to `p`; None for candidates.p_max.

    Raises:
        DataError: the sets belong to other samples, or were built for a smaller p.
    """
    folder = context.input("samples")
    lengths = [len(sample.response_ids) for sample in read_samples(folder / "samples.jsonl")]
    return load_candidate_sets(context.inputs["candidates"], digest_file(folder / MANIFEST), lengths, p)
