"""Word-level distillation on the teacher's samples from the candidate sets along them: no teacher in memory."""

from collections.abc import Sequence

import torch

from distill.candidates.store import StoredSets, load_candidate_sets
from distill.files import MANIFEST, digest_file
from distill.losses.cross_entropy import set_nll
from distill.losses.terms import LossTerms
from distill.models.packing import pack_sequences
from distill.records import read_samples
from distill.training.context import MethodContext
from distill.training.imitation import Imitation, Pairs, chosen_places, human_responses
from distill.training.task import Forward


class CachedImitation(Imitation):
    """(1 - r) CE + r KD as `Imitation`, the teacher's distribution being that of its sets, renormalised (`set_nll`).

    The dev loss is CE alone, since no sets lie along the dev responses.
    """

    def __init__(
        self,
        train: Pairs,
        dev: Pairs,
        device: torch.device | str,
        sets: StoredSets,
        places: Sequence[int],
        kd_ratio: float,
    ):
        """`places`: of the training pairs among all samples, which find their sets."""
        super().__init__(train, dev, device)
        self.sets, self.places, self.set_ratio = sets, places, kd_ratio

    def losses(self, forward: Forward, indices: Sequence[int], step: int) -> dict[str, LossTerms]:
        """Returns the micro-batch's sums over response tokens."""
        batch = pack_sequences([self.train[index] for index in indices], self.device, with_final_state=False)
        sets = self.sets.take([self.places[index] for index in indices], with_final_state=False)
        return {"response": set_nll(forward(batch), batch.actions, sets.to(self.device), self.set_ratio)}


def cached_imitation_task(context: MethodContext, per_prompt: int | None, kd_ratio: float) -> CachedImitation:
    """Returns the task on the first so many samples of each training prompt; None takes all.

    Raises:
        DataError: a prompt has fewer, or the sets belong to other samples.
    """
    folder = context.input("samples")
    samples = read_samples(folder / "samples.jsonl")
    lengths = [len(sample.response_ids) for sample in samples]
    sets = load_candidate_sets(context.inputs["candidates"], digest_file(folder / MANIFEST), lengths)
    places = chosen_places(context, samples, per_prompt)
    train = [(samples[place].prompt_ids, samples[place].response_ids) for place in places]
    dev = human_responses(context, context.dev / "examples.jsonl")
    return CachedImitation(train, dev, context.device, sets, places, kd_ratio)
