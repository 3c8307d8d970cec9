"""Learning from preference pairs: what all methods on pairs share, and DPO."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from distill.data.pairs import DEV, TRAIN, EncodedPair, encode_pairs
from distill.data.tokens import load_tokenizer
from distill.losses.log_probs import token_log_probs
from distill.losses.preference import dpo_rewards, preference_loss
from distill.losses.states import States
from distill.losses.terms import LossTerms
from distill.models.packed import PackedModel
from distill.models.packing import PackedBatch, pack_sequences
from distill.models.responses import response_log_probs
from distill.training.context import MethodContext
from distill.training.task import Drawn, Forward, Task

_BATCH = 64


@dataclass(frozen=True)
class Referenced:
    """Pairs with the reference's log-probabilities.

    `log_probs`: log r of the tokens of each response, chosen and rejected in turn.
    """

    pairs: Sequence[EncodedPair]
    log_probs: Sequence[Tensor]


class Preferences(NamedTuple):
    """The pairs that a run learns from and those that it is watched on, the scale of the reward, and the device."""

    train: Referenced
    dev: Referenced
    beta: float
    device: torch.device | str


class PairBatch(NamedTuple):
    """Packed pairs, chosen and rejected in turn.

    `lengths`: int64 [2 pairs]. `reference`: log r of the tokens, end to end.
    """

    packed: PackedBatch
    lengths: Tensor
    reference: Tensor


class PairTask(Task):
    """A method on preference pairs; an item is a pair.

    The dev loss is DPO's on the dev pairs, whatever the method minimises, so that methods can be compared by it. The
    rows of a dev pair: that loss, the margin (log q / r of the chosen minus that of the rejected response, in nats),
    how often it is above 0 (a half where it is 0, as at the start), and whether log q alone ranks the pair rightly.
    """

    def __init__(self, preferences: Preferences, coefficients: dict[str, float] | None = None):
        self.train, self.dev, self.beta, self.device = preferences
        self.items, self.coefficients = len(self.train.pairs), coefficients or {"preference": 1.0}

    @abstractmethod
    def terms(self, states: States, batch: PairBatch, indices: Sequence[int]) -> dict[str, LossTerms]:
        """Returns each term's sums over the training pairs of these places."""

    def weights(self, indices: Sequence[int], step: int) -> dict[str, float]:
        """Returns the pairs of a micro-batch."""
        return dict.fromkeys(self.coefficients, len(indices))

    def losses(self, forward: Forward, indices: Sequence[int], step: int) -> dict[str, LossTerms]:
        """Returns the micro-batch's sums."""
        batch = self.pack(self.train, indices)
        return self.terms(forward(batch.packed), batch, indices)

    def drawn(self, index: int, step: int) -> Drawn:
        """Returns the prompt of a pair; neither response is a label of the instruction data."""
        return Drawn(tuple(self.train.pairs[index].prompt_ids), is_labelled=False)

    def evaluate(self, model: PackedModel) -> tuple[float, list[dict]]:
        """Returns DPO's loss on the dev pairs, and a row a pair; see the class."""
        sides = [side for pair in self.dev.pairs for side in pair.sides]
        own = response_log_probs(model, sides, _BATCH, self.device)
        ranks, margins = (
            _differences(torch.stack([values.sum() for values in found]))
            for found in (own, [log_q - log_r for log_q, log_r in zip(own, self.dev.log_probs, strict=True)])
        )
        losses = torch.nn.functional.softplus(-self.beta * margins)
        columns = {
            "loss": losses,
            "margin": margins,
            "implicit_accuracy": (margins.sign() + 1) / 2,
            "ranking": (ranks > 0).float(),
        }
        values = zip(*(column.tolist() for column in columns.values()), strict=True)
        rows = [
            {"id": pair.id, **dict(zip(columns, own, strict=True))}
            for pair, own in zip(self.dev.pairs, values, strict=True)
        ]
        return losses.mean().item(), rows

    def pack(self, found: Referenced, indices: Sequence[int]) -> PairBatch:
        """Returns pairs as a batch of the states that predict their responses."""
        packed = pack_sequences([side for i in indices for side in found.pairs[i].sides], self.device, False)
        reference = torch.cat([found.log_probs[2 * i + side] for i in indices for side in (0, 1)])
        return PairBatch(packed, torch.tensor(packed.response_lengths), reference.to(self.device))


class Dpo(PairTask):
    """-log sigmoid of the margin between the implicit rewards beta log q / r, a mean over pairs.

    `offsets`: float32 [2 pairs], added to the rewards of the training pairs' responses, without gradient; None for
    DPO.
    """

    def __init__(self, preferences: Preferences, offsets: Tensor | None = None):
        super().__init__(preferences)
        self.offsets = offsets

    def terms(self, states: States, batch: PairBatch, indices: Sequence[int]) -> dict[str, LossTerms]:
        """Returns the sum over the pairs."""
        log_probs = token_log_probs(states, batch.packed.actions)
        offsets = None
        if self.offsets is not None:
            offsets = self.offsets.view(-1, 2)[list(indices)].flatten().to(log_probs.device)
        rewards = dpo_rewards(log_probs, batch.reference, batch.lengths, self.beta, offsets)
        return {"preference": preference_loss(rewards)}


def read_preferences(context: MethodContext) -> Preferences:
    """Returns a run's pairs, with the log-probabilities of its start.

    They are computed once a pair before the first update, and a resumed run computes them again from the same start.
    """
    folder, (tokenizer, eos_id) = context.input("pairs"), load_tokenizer(context.tokenizer)
    reference = context.load_frozen("start")

    def referenced(name: str) -> Referenced:
        pairs = encode_pairs(folder / f"{name}.jsonl", tokenizer, context.wrapper, eos_id)
        sides = [side for pair in pairs for side in pair.sides]
        return Referenced(pairs, response_log_probs(reference, sides, _BATCH, context.device))

    return Preferences(referenced(TRAIN), referenced(DEV), context.run.beta, context.device)


def _differences(responses: Tensor) -> Tensor:
    chosen, rejected = responses.view(-1, 2).unbind(1)
    return chosen - rejected
