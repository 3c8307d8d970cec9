"""The weight that a trainer reads off the data is the weight that the objective then returns."""

from itertools import product

import pytest
import torch

from distill.losses.candidate_sets import CandidateSets, top_p_sets
from distill.methods.bd.reference import bellman_released, bellman_sampled
from distill.methods.bd.section import Bellman
from distill.methods.bd.trajectories import Trajectories, loss_weight
from states import vary

LENGTHS = [5, 1, 4, 2, 1, 3]
STATES, VOCAB = sum(LENGTHS) + len(LENGTHS), 8
CHOICES = {
    "oos_action": ("drop", "include", "floor"),
    "eos_action": ("include", "exclude"),
    "truncation": ("bootstrap", "drop_last"),
    "reduction": ("token", "sequence"),
    "occupancy_weights": (False, True),
}


def draw(p: float) -> tuple[torch.Tensor, Trajectories, CandidateSets | None]:
    """Six sequences, cut and finished ones of one token among them, with tokens inside and outside their sets."""
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(STATES, VOCAB, generator=generator, dtype=torch.float64)
    actions = torch.randint(VOCAB, (sum(LENGTHS),), generator=generator)
    done = torch.tensor([True, True, False, False, False, True])
    sets = None if p == 1 else top_p_sets((logits / 2).softmax(-1), p)
    return logits, Trajectories(actions, torch.tensor(LENGTHS), done), sets


@pytest.mark.parametrize(("p", "objective"), [(0.6, "sampled"), (0.6, "expected"), (1.0, "sampled")])
def test_weight_of_the_published_objectives_for_every_option(p, objective):
    logits, trajectories, sets = draw(p)
    found = set()
    for values in product(*CHOICES.values()):
        options = Bellman(objective=objective, gamma=0.9, **dict(zip(CHOICES, values, strict=True)))
        weight = bellman_sampled(logits, trajectories, sets, options).weight.item()
        assert loss_weight(trajectories, sets, options).item() == pytest.approx(weight, rel=1e-6), values
        found.add(round(weight, 6))
    assert len(found) > (12 if p < 1 else 6)


@pytest.mark.parametrize("p", [0.6, 1.0])
@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_weight_of_the_released_objective(p, reduction):
    logits, trajectories, sets = draw(p)
    options = Bellman(objective="released", p=p, reduction=reduction)
    weight = bellman_released(logits, trajectories, sets, options).weight.item()
    assert loss_weight(trajectories, sets, options).item() == weight
    # The last transition of each response is out, so those of one token have none left.
    assert weight == {"token": sum(LENGTHS) - len(LENGTHS), "sequence": 4}[reduction]


def test_with_a_remainder_tokens_outside_their_sets_count():
    logits, trajectories, sets = draw(0.6)
    for reduction, weight in (("token", sum(LENGTHS)), ("sequence", len(LENGTHS))):
        options = Bellman(remainder=True, chi2="printed", reduction=reduction)
        assert loss_weight(trajectories, sets, options) == weight
        assert bellman_sampled(logits, trajectories, sets, options).weight == weight
    assert loss_weight(trajectories, sets, Bellman()) < sum(LENGTHS)


def test_a_batch_with_nothing_valid_weighs_nothing():
    logits, trajectories, sets = draw(0.6)
    inside = sets.contains(torch.arange(STATES) % VOCAB)  # any token ids will do: look for one that is outside
    state = int((~inside).nonzero()[0])
    one = Trajectories(torch.tensor([state % VOCAB]), torch.tensor([1]), torch.tensor([True]))
    pair = torch.tensor([state, state + 1])
    rows = CandidateSets.cat([sets[row : row + 1] for row in pair.tolist()])
    for options in (Bellman(), Bellman(reduction="sequence")):
        assert loss_weight(one, rows, options).item() == 0 == bellman_sampled(logits[pair], one, rows, options).weight
    assert loss_weight(one, rows, vary(Bellman(), oos_action="include")).item() == 1
