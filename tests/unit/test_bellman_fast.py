"""Bellman Distill on states is the reference on their logits: loss, weight, parts, metrics, and both gradients."""

from dataclasses import replace
from functools import partial
from itertools import combinations
from random import Random

import pytest
import torch

from distill.errors import ConfigError, DataError
from distill.losses.candidate_sets import CandidateSets, top_p_sets
from distill.methods.bd.objective import bellman, mass_outside
from distill.methods.bd.reference import bellman_released, bellman_sampled
from distill.methods.bd.section import Bellman
from distill.methods.bd.trajectories import Trajectories
from states import VOCABULARY, as_states, draw_world, furthest, vary, with_gradients

PUBLISHED = {
    "p": (0.5, 0.8, 1.0),
    "objective": ("sampled", "expected"),
    "remainder": (False, True),
    "q_shift": ("max", "lse", "none"),
    "q_min": (-10.0, -2.0, None),
    "clip_scope": ("all", "selected"),
    "chi2": ("printed", "none", "centred"),
    "gamma": (0.99, 0.6),
    "oos_action": ("drop", "include", "floor"),
    "eos_action": ("include", "exclude"),
    "truncation": ("bootstrap", "drop_last"),
    "reduction": ("token", "sequence"),
    "occupancy_weights": (False, True),
    "detach_next_value": (False, True),
    "value_loss": ("telescoped", "v0"),
}
RELEASED = {
    "objective": ("released",),
    "p": (0.5, 0.8, 1.0),
    "q_min": (-10.0, -2.0),
    "chi2": ("printed", "none"),
    "gamma": (0.99, 0.6),
    "epsilon": (1e-8, 1e-2),
    "reduction": ("token", "sequence"),
}
CANNOT_MEET = {
    (("p", 1.0), ("objective", "expected")),
    (("p", 1.0), ("chi2", "centred")),
    (("q_min", None), ("oos_action", "floor")),
    (("remainder", True), ("oos_action", "include")),
    (("remainder", True), ("oos_action", "floor")),
    (("chi2", "centred"), ("oos_action", "include")),
}


def cover(choices: dict[str, tuple]) -> list[dict]:
    """Draws combinations of options until any two values of any two options have met in one."""
    names, random, found = list(choices), Random(0), []
    missing = {
        ((one, first), (other, second))
        for one, other in combinations(names, 2)
        for first in choices[one]
        for second in choices[other]
    } - CANNOT_MEET
    while missing:
        drawn = {name: random.choice(values) for name, values in choices.items()}
        met = {*combinations(drawn.items(), 2)}
        if met & missing and not met & CANNOT_MEET:
            found.append(drawn)
            missing -= met
    return found


def cases() -> list:
    found = []
    for choices in (PUBLISHED, RELEASED):
        for own in cover(choices):
            found.append(pytest.param(own["p"], Bellman(**own), id="-".join(map(str, own.values()))))
    return found


def dense(states, trajectories, candidates, options):
    reference = bellman_released if options.objective == "released" else bellman_sampled
    return reference(states.logits(), trajectories, candidates, options)


def both(world, options, states=None):
    """The fast loss and the reference with their gradients, on the world's states or on other ones."""
    arguments = {"trajectories": world.trajectories, "candidates": world.candidates, "options": options}
    return [with_gradients(partial(loss, **arguments), states or world.student) for loss in (bellman, dense)]


@pytest.mark.parametrize(("p", "options"), cases())
def test_it_is_the_reference(p, options):
    for seed in range(3):
        exact = draw_world(p, seed)
        found, expected = both(exact, options)
        assert furthest(found, expected) < 1e-9
        single = draw_world(p, seed, torch.float32)
        rounded, _ = both(replace(single, candidates=exact.candidates), options)
        same = replace(exact.student, hidden=single.student.hidden.double(), weight=single.student.weight.double())
        assert rounded[0].total.dtype == rounded[1].dtype == torch.float32
        assert furthest(rounded, both(exact, options, same)[1]) < 1e-5


SOME = [
    (0.8, Bellman()),
    (0.8, Bellman(oos_action="include", q_min=-3.0)),
    (0.5, Bellman(objective="expected", q_shift="none")),
    (0.8, Bellman(q_shift="lse", gamma=0.9)),
    (0.8, Bellman(remainder=True, chi2="printed")),
    (0.5, Bellman(objective="expected", remainder=True, chi2="none")),
    (0.8, Bellman(objective="expected", remainder=True, chi2="centred", q_shift="none")),
    (1.0, Bellman(q_min=None)),
    (0.8, Bellman(objective="released", p=0.8)),
    (1.0, Bellman(objective="released", p=1.0)),
]


def test_the_worlds_reach_every_branch():
    for seed in range(3):
        for p in (0.5, 0.8):
            world = draw_world(p, seed)
            inside = world.trajectories.inside(world.candidates)
            assert 0 < inside.sum() < len(inside)
            logits = world.student.logits()
            q = logits - logits.max(-1, keepdim=True).values
            floored = q[world.candidates.rows, world.candidates.ids] < -2
            assert 0 < floored.sum() < len(floored) and (q < -10).any()
            gradients = both(world, SOME[0][1])[1]
            assert gradients[1].norm() > 1 and gradients[2].norm() > 1


@pytest.mark.parametrize(("p", "options"), SOME)
def test_bfloat16_is_close_and_computed_in_float32(p, options):
    """In several chunks, whose gradients are added up in float32."""
    world = draw_world(p)
    states = replace(world.student, chunk_logits=8 * world.student.vocabulary)
    half = replace(states, hidden=states.hidden.bfloat16(), weight=states.weight.bfloat16())
    exact = replace(states, hidden=half.hidden.double(), weight=half.weight.double())
    found, _ = both(world, options, half)
    assert found[0].total.dtype == torch.float32 and {gradient.dtype for gradient in found[1:]} == {torch.bfloat16}
    _, expected = both(world, options, exact)
    assert furthest(found, expected) < 0.05


@pytest.mark.parametrize(("p", "options"), SOME)
def test_of_equal_largest_logits_the_first_is_shifted_by(p, options):
    world = draw_world(p)
    logits = world.student.logits()
    top = logits.argmax(-1)
    for row, token in enumerate(top.tolist()):
        logits[row, (token + 1 + row) % logits.shape[1]] = logits[row, token]
        logits[row, (token + 7 + 3 * row) % logits.shape[1]] = logits[row, token]
    found, expected = both(world, options, as_states(logits))
    assert furthest(found, expected) < 1e-12


@pytest.mark.parametrize(("p", "options"), SOME)
def test_rows_that_no_token_names_get_no_gradient(p, options):
    world = draw_world(p)
    (_, _, gradient), _ = both(world, options)
    assert (gradient[world.student.vocabulary :] == 0).all() and gradient.abs().max() > 0.1


@pytest.mark.parametrize("options", [own for p, own in SOME if p == 0.8])
def test_nothing_valid_gives_no_weight_and_no_gradient(options):
    """One token and EOS: outside its set, or the last transition, which the released objective leaves out."""
    probs = torch.tensor([[0.9, 0.06, 0.04]] * 2, dtype=torch.float64)
    states = as_states(torch.tensor([[0.3, -1.0, 0.2], [1.0, 0.0, -0.5]], dtype=torch.float64))
    batch = Trajectories(torch.tensor([2]), torch.tensor([1]), torch.tensor([True]))
    if options.objective != "released" and (options.oos_action == "include" or options.remainder):
        options = vary(options, eos_action="exclude")
    terms, *gradients = with_gradients(lambda own: bellman(own, batch, top_p_sets(probs, 0.8), options), states)
    assert terms.weight == 0 and terms.total == 0
    assert all((gradient == 0).all() for gradient in gradients)


def test_sets_of_all_tokens_have_no_remainder_beside_sets_that_have_one():
    """Every third row holds all tokens: its remainder must count nowhere, in V, mean, residual and gradient."""
    world = draw_world(0.8)
    probs = world.teacher.logits().softmax(-1)
    rows = [top_p_sets(probs[row : row + 1], 0.8 if row % 3 else 1.0) for row in range(len(probs))]
    sets = CandidateSets.cat([replace(row, p=0.8) for row in rows])
    for options in (own for _, own in SOME if own.objective != "released"):
        found, expected = both(replace(world, candidates=sets), options)
        assert furthest(found, expected) < 1e-12
        assert all(tensor.isfinite().all() for tensor in (found[0].total, *found[1:]))


def test_a_remainder_far_below_the_set_keeps_its_digits_in_float32():
    """Its logsumexp is formed from its own logits: one minus the mass of the set would round to 0 here."""
    world = draw_world(0.8)
    logits = world.student.logits().round()
    outside = ~world.candidates.to_mask(VOCABULARY)
    options = Bellman(objective="expected", remainder=True, chi2="centred", q_min=None)
    for offset in (-60.0, -200.0):
        far = logits + offset * outside
        found, _ = both(replace(world), options, as_states(far.float()))
        _, expected = both(world, options, as_states(far))
        assert furthest(found, expected) < 1e-5


def test_the_mass_outside_the_sets_is_that_of_the_whole_softmax():
    world = draw_world(0.8)
    inside = world.student.logits().softmax(-1) * world.candidates.to_mask(VOCABULARY)
    for chunk_logits in (None, 3 * VOCABULARY):
        found = mass_outside(replace(world.student, chunk_logits=chunk_logits), world.candidates)
        torch.testing.assert_close(found, 1 - inside.sum(-1), atol=1e-12, rtol=0)
    options = Bellman(remainder=True, chi2="printed", q_min=-2.0)
    total, count = bellman(world.student, world.trajectories, world.candidates, options).metrics["student_outside"]
    torch.testing.assert_close(total / count, found[world.trajectories.state].mean())


def test_what_does_not_fit_is_refused():
    world = draw_world(0.8)
    for states, sets in ((world.student[1:], world.candidates), (world.student, world.candidates[1:])):
        with pytest.raises(DataError, match="expected 20 actions, 26 rows of logits and 26 candidate sets"):
            bellman(states, world.trajectories, sets, Bellman())
    for name, value in (("objective", "expected"), ("chi2", "centred")):
        with pytest.raises(ConfigError, match=f"{name}: .*found {value}; set p below 1"):
            bellman(world.student, world.trajectories, None, Bellman(**{name: value}))
