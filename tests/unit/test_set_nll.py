"""Cross entropy with the teacher's renormalised candidate sets."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from distill.errors import ConfigError, DataError
from distill.losses.candidate_sets import top_p_sets
from distill.losses.cross_entropy import distilled_nll, set_nll, token_nll
from states import draw_world, furthest, with_gradients


def run(world, sets, ratio, **changes):
    """Returns the loss of a world's student and its gradients."""
    student = replace(world.student, **changes)
    return with_gradients(lambda states: set_nll(states, world.tokens, sets, ratio), student)


@pytest.mark.parametrize("p", [0.5, 0.95])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_it_is_torch_s_cross_entropy_with_the_dense_renormalised_teacher(p, ratio):
    world = draw_world(p)
    probs = world.teacher.logits().softmax(-1) * world.candidates.to_mask(world.student.vocabulary)
    mass = probs.sum(-1, keepdim=True)
    assert (p <= mass).all() and (mass < 1).all() and world.candidates.sizes.unique().numel() > 2
    found = run(world, world.candidates, ratio)

    hidden, weight = (own.clone().requires_grad_() for own in (world.student.hidden, world.student.weight))
    logits = hidden @ weight[: world.student.vocabulary].T
    ce = (1 - ratio) * cross_entropy(logits, world.tokens, reduction="sum")
    kd = ratio * cross_entropy(logits, probs / mass, reduction="sum")
    (ce + kd).backward()
    terms = replace(found[0], total=ce + kd, parts={"ce": ce.detach(), "kd": kd.detach()})
    assert furthest(found, (terms, hidden.grad, weight.grad)) < 1e-12
    assert terms.weight == 26


@pytest.mark.parametrize("at_once", [1, 3, 25])
def test_the_size_of_a_chunk_changes_nothing(at_once):
    world = draw_world(0.8)
    whole, cut = (run(world, world.candidates, 0.5, chunk_logits=rows * 37) for rows in (26, at_once))
    assert furthest(cut, whole) < 1e-13


@pytest.mark.parametrize("ratio", [0.5, 1.0])
def test_sets_of_all_tokens_are_the_live_teacher(ratio):
    world = draw_world(1)
    sets = top_p_sets(world.teacher.logits().softmax(-1), 1.0)
    live = with_gradients(lambda own: distilled_nll(own, world.tokens, world.teacher, ratio), world.student)
    assert furthest(run(world, sets, ratio), live) < 1e-12


def test_sets_of_one_token_are_labels():
    """Whatever the teacher's probability: it is renormalised."""
    world = draw_world(0.01)
    found = run(world, world.candidates, 1.0)
    labels = with_gradients(lambda own: token_nll(own, world.candidates.ids.long()), world.student)
    labels = (replace(labels[0], parts={"ce": torch.zeros(()), "kd": labels[0].parts["ce"]}), *labels[1:])
    assert furthest(found, labels) < 1e-12


def test_half_precision_is_computed_in_float32():
    world = draw_world(0.8, dtype=torch.bfloat16)
    sets = replace(world.candidates, probs=world.candidates.probs.float())
    found = set_nll(world.student, world.tokens, sets, 0.5).total
    # Products of bfloat16 numbers are rounded in the logits, before the loss.
    logits = world.student.logits()
    shares = (sets.probs / sets.mass[sets.rows]).float()
    aim = torch.zeros_like(logits).index_put((sets.rows, sets.ids), shares)
    ce, kd = (cross_entropy(logits, target, reduction="sum") for target in (world.tokens, aim))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, (ce + kd) / 2)


@pytest.mark.parametrize("ratio", [1.5, -0.1])
def test_a_share_outside_its_range_is_refused(ratio):
    world = draw_world(0.8)
    with pytest.raises(ConfigError, match="kd_ratio"):
        set_nll(world.student, world.tokens, world.candidates, ratio)


def test_another_number_of_sets_is_refused():
    world = draw_world(0.8)
    with pytest.raises(DataError, match="expected one for each of 26 states, found 25"):
        set_nll(world.student, world.tokens, world.candidates[:25], 0.5)
