"""Divergences between student and teacher: oracles, closed forms, limits, and the gradients of plain autograd."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill.errors import ConfigError, DataError
from distill.losses.candidate_sets import top_p_sets
from distill.losses.cross_entropy import distilled_nll, set_nll
from distill.losses.divergences import divergence_loss, state_divergences
from distill.methods.minillm.objective import reverse_kl
from states import as_states, draw_world, with_gradients

ORACLES = json.loads((Path(__file__).parents[1] / "golden" / "further_oracles.json").read_text())
CASES = {case["id"]: case for case in ORACLES["cases"] if case["batch"] == "states"}
DOUBLE = torch.float64
TOLERANCE = {DOUBLE: 1e-9, torch.float32: 1e-5}
NAMES = {"jsd": 0.3, "skew_kl": 0.1, "skew_reverse_kl": 0.1, "forward_kl": None, "reverse_kl": None}
NAMES |= {"total_variation": None, "remainder_kl": 0.7}


def batch(dtype, chunk_states):
    """Student and teacher states of the oracle where its mask is 1, and the places of those in its batch."""
    tensors = {name: torch.tensor(values, dtype=dtype) for name, values in ORACLES["batches"]["states"].items()}
    kept = tensors["mask"] == 1
    models = (as_states(tensors[name][kept]) for name in ("student", "teacher"))
    return *(replace(states, chunk_logits=chunk_states * states.vocabulary) for states in models), kept


def arguments(options):
    """Returns the arguments of a case of the oracle."""
    name = options["loss"].removesuffix("_detached")
    weight = options.get("weight")
    keys = {"detach_mixture": True} if options["loss"].endswith("detached") else {}
    return (name, weight), keys | ({"temperature": options["temperature"]} if "temperature" in options else {})


@pytest.mark.parametrize("chunk_states", [1, 3, 100])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", [name for name in CASES if "TRL 0.12.0" not in name])
def test_values_and_gradients_are_those_of_the_oracle(case, dtype, chunk_states):
    positional, keys = arguments(CASES[case]["options"])
    student, teacher, kept = batch(dtype, chunk_states)
    terms, gradient, _ = with_gradients(lambda states: divergence_loss(states, teacher, *positional, **keys), student)
    keys.pop("detach_mixture", None)
    values = state_divergences(student, teacher, *positional, **keys)

    def check(found, expected):
        expected = torch.tensor(expected, dtype=DOUBLE)
        torch.testing.assert_close(found.detach().double(), expected, rtol=0, atol=TOLERANCE[dtype])

    check(terms.mean, CASES[case]["loss"])
    check(values, torch.tensor(CASES[case]["outputs"]["rows"], dtype=DOUBLE)[kept].tolist())
    check(gradient / terms.weight, torch.tensor(CASES[case]["gradients"][0], dtype=DOUBLE)[kept].tolist())
    assert terms.weight == 5 and not values.requires_grad


def test_an_early_trl_exchanged_the_weights_of_the_mixture():
    """Of TRL 0.12.0, for reference; ours is its later form."""
    student, teacher, kept = batch(DOUBLE, 100)
    p, q = teacher.logits().softmax(-1), student.logits().softmax(-1)
    m = 0.9 * p + 0.1 * q
    rows = 0.1 * (p * (p / m).log()).sum(-1) + 0.9 * (q * (q / m).log()).sum(-1)
    expected = torch.tensor(CASES["gkd jsd 0.1 as in TRL 0.12.0"]["outputs"]["rows"], dtype=DOUBLE)[kept]
    torch.testing.assert_close(rows, expected, rtol=0, atol=1e-9)
    assert (state_divergences(student, teacher, "jsd", 0.1) - expected).abs().min() > 0.1


def literal(name, weight, student, teacher, detach):
    """The definitions, by rows, on dense logits."""
    q, p = student.softmax(-1), teacher.softmax(-1)

    def kl(one, other):
        return torch.special.xlogy(one, one / other.where(one > 0, 1)).sum(-1)

    inside = q.detach() if detach else q
    return {
        "jsd": lambda: weight * kl(p, m := weight * p + (1 - weight) * q) + (1 - weight) * kl(q, m),
        "skew_kl": lambda: kl(p, weight * p + (1 - weight) * q),
        "skew_reverse_kl": lambda: kl(q, (1 - weight) * p + weight * inside),
        "forward_kl": lambda: kl(p, q),
        "reverse_kl": lambda: kl(q, p),
        "total_variation": lambda: (p - q).abs().sum(-1) / 2,
        "remainder_kl": lambda: kl(lumped(p, p, weight), lumped(q, p, weight)),
    }[name]()


def lumped(probs, teacher, mass):
    """Tokens of the teacher's set with one remainder behind them."""
    inside = top_p_sets(teacher, mass).to_mask(teacher.shape[-1])
    return torch.cat([probs.where(inside, 0), probs.where(~inside, 0).sum(-1, keepdim=True)], -1)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(("name", "detach"), [*((name, False) for name in NAMES), ("skew_reverse_kl", True)])
def test_value_and_both_gradients_are_those_of_autograd(name, detach, temperature, dtype):
    """With weights by state and an output matrix of more rows than tokens."""
    world, exact = draw_world(0.8, dtype=dtype), draw_world(0.8)
    factors = 1 + torch.arange(len(world.student), dtype=DOUBLE).cos() / 2
    keys = {"detach_mixture": detach, "temperature": temperature, "state_weights": factors.to(dtype)}
    terms, *gradients = with_gradients(
        lambda states: divergence_loss(states, world.teacher, name, NAMES[name], **keys), world.student
    )
    leaves = exact.student.hidden.requires_grad_(), exact.student.weight.requires_grad_()
    logits = [own.logits() / temperature for own in (exact.student, exact.teacher)]
    total = (factors * literal(name, NAMES[name], *logits, detach)).sum()
    expected = (total.detach(), *torch.autograd.grad(total, leaves))
    for found, other in zip((terms.total.detach(), *gradients), expected, strict=True):
        assert (found.double() - other).norm() < TOLERANCE[dtype] * other.norm().clamp(min=1)
    torch.testing.assert_close(terms.weight.double(), factors.sum())
    assert terms.parts.keys() == {name} and terms.parts[name] == terms.total


@pytest.fixture
def models():
    generator = torch.Generator().manual_seed(0)
    return tuple(map(as_states, 2 * torch.randn(2, 50, 9, generator=generator, dtype=DOUBLE)))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_0_without_gradient_where_the_models_agree_and_positive_elsewhere(models, name):
    student, teacher = models
    # A constant changes no q; the slope of a distance would be the sign of what rounding leaves.
    same = as_states(student.hidden + (0 if name == "total_variation" else 3))
    terms, gradient, _ = with_gradients(lambda states: divergence_loss(states, same, name, NAMES[name]), student)
    assert terms.total.abs() < 1e-13 and gradient.abs().max() < 1e-13
    assert state_divergences(student, teacher, name, NAMES[name]).min() > 1e-3


@pytest.mark.parametrize("b", [0.0, 0.1, 0.5, 0.8, 1.0])
def test_jsd_exchanges_its_models_with_its_weight_and_is_bounded(models, b):
    student, teacher = models
    values = state_divergences(student, teacher, "jsd", b)
    torch.testing.assert_close(values, state_divergences(teacher, student, "jsd", 1 - b))
    if 0 < b < 1:
        assert values.max() <= -b * math.log(b) - (1 - b) * math.log(1 - b)


def test_jsd_tends_to_both_kl_divergences(models):
    models = [as_states(own.hidden / 2) for own in models]
    forward, reverse = (state_divergences(*models, name) for name in ("forward_kl", "reverse_kl"))
    torch.testing.assert_close(state_divergences(*models, "jsd", 1e-4) / 1e-4, forward, rtol=1e-2, atol=0)
    torch.testing.assert_close(state_divergences(*models, "jsd", 1 - 1e-4) / 1e-4, reverse, rtol=1e-2, atol=0)


def test_skews_are_bounded_and_end_at_kl_and_0(models):
    for name, kl in (("skew_kl", "forward_kl"), ("skew_reverse_kl", "reverse_kl")):
        assert 0 < state_divergences(*models, name, 0.1).max() <= -math.log(0.1)
        torch.testing.assert_close(state_divergences(*models, name, 0.0), state_divergences(*models, kl))
        terms, gradient, _ = with_gradients(
            lambda states, name=name: divergence_loss(states, models[1], name, 1.0), models[0]
        )
        assert terms.total.abs() < 1e-13 and gradient.abs().max() < 1e-13


@pytest.mark.parametrize(
    ("name", "weight", "value"),
    [
        ("forward_kl", None, 0.192745),
        ("reverse_kl", None, 0.223144),
        ("jsd", 0.5, 0.050672),
        ("jsd", 0.1, 0.017473),
        ("jsd", 0.9, 0.019599),
        ("skew_kl", 0.1, 0.158505),
        ("skew_reverse_kl", 0.1, 0.172373),
        ("total_variation", None, 0.3),
    ],
)
def test_of_two_tokens_by_hand(name, weight, value):
    student, teacher = (as_states(torch.tensor([own], dtype=DOUBLE).log()) for own in ([0.5, 0.5], [0.8, 0.2]))
    assert state_divergences(student, teacher, name, weight).item() == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize("name", NAMES)
def test_logits_far_apart_give_finite_values_and_gradients(name):
    """Each model is certain of a token that the other excludes."""
    student, teacher = (as_states(torch.tensor([own])) for own in ([300.0, 0.0, -300.0], [-300.0, 0.0, 300.0]))
    for weight in {NAMES[name], *((0.0, 1.0) if NAMES[name] else ())}:
        terms, gradient, _ = with_gradients(
            lambda states, weight=weight: divergence_loss(states, teacher, name, weight), student
        )
        assert terms.total.isfinite() and gradient.isfinite().all()


def test_means_by_sequence(models):
    """DistiLLM-2: the mean over sequences of means over their tokens."""
    lengths = torch.tensor([20, 5, 25])
    factors = (1 / lengths.double()).repeat_interleave(lengths)
    terms = divergence_loss(*models, "skew_kl", 0.1, state_weights=factors)
    values = state_divergences(*models, "skew_kl", 0.1).split(lengths.tolist())
    torch.testing.assert_close(terms.mean, sum(own.mean() for own in values) / 3)


def test_forward_kl_is_that_of_distillation_less_the_teacher_s_entropy(models):
    tokens = torch.zeros(50, dtype=torch.long)
    kd, kd_gradient, _ = with_gradients(lambda states: distilled_nll(states, tokens, models[1], 1.0), models[0])
    kl, gradient, _ = with_gradients(lambda states: divergence_loss(states, models[1], "forward_kl"), models[0])
    torch.testing.assert_close(gradient, kd_gradient)
    p = models[1].logits().softmax(-1)
    torch.testing.assert_close(kl.total, kd.total + (p * p.log()).sum())


def test_jsd_at_1_is_the_one_step_part_of_minillm(models):
    assert torch.equal(state_divergences(*models, "jsd", 1.0), reverse_kl(*models))


def test_the_teacher_gets_no_gradient(models):
    student, teacher = (as_states(own.hidden.requires_grad_()) for own in models)
    divergence_loss(student, teacher, "jsd", 0.5).total.backward()
    assert teacher.hidden.grad is None and student.hidden.grad is not None


@pytest.mark.parametrize(
    ("positional", "keys", "line"),
    [
        (("kl",), {}, "divergence: expected one of .*, found 'kl'"),
        (("jsd",), {}, r"weight: expected a number in \[0, 1\] with jsd, found None"),
        (("jsd", 1.5), {}, r"weight: expected a number in \[0, 1\] with jsd, found 1.5"),
        (("forward_kl", 0.5), {}, "weight: expected none with forward_kl"),
        (("jsd", 0.5), {"detach_mixture": True}, "detach_mixture: expected skew_reverse_kl"),
        (("jsd", 0.5), {"temperature": 0.0}, "temperature: expected a number above 0, found 0.0"),
    ],
)
def test_misuse_is_refused(models, positional, keys, line):
    with pytest.raises(ConfigError, match=line):
        divergence_loss(*models, *positional, **keys)


def test_weights_of_another_number_of_states_are_refused(models):
    with pytest.raises(DataError, match=r"state_weights: expected one for each of 50 states, found \[49\]"):
        divergence_loss(*models, "forward_kl", state_weights=torch.ones(49))


FINITE = {name: weight for name, weight in NAMES.items() if name not in ("reverse_kl", "remainder_kl")}


@pytest.mark.parametrize("chunk_states", [3, 100])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("name", FINITE)
def test_on_sets_it_is_that_of_the_teacher_cut_to_them(models, name, temperature, chunk_states):
    student, teacher = replace(models[0], chunk_logits=9 * chunk_states), models[1]
    sets = top_p_sets(teacher.logits().softmax(-1), 0.8)
    assert 1 < len(sets.ids) / 50 < 8
    keys = {"temperature": temperature, "state_weights": torch.linspace(0.5, 2, 50, dtype=DOUBLE)}
    found = with_gradients(lambda states: divergence_loss(states, sets, name, FINITE[name], **keys), student)
    cut = as_states(teacher.logits().masked_fill(~sets.to_mask(9), -800.0))  # no probability in float64
    expected = with_gradients(lambda states: divergence_loss(states, cut, name, FINITE[name], **keys), student)
    torch.testing.assert_close((found[0].total, found[1]), (expected[0].total, expected[1]))
    rows = literal(name, FINITE[name], student.logits() / temperature, cut.logits() / temperature, False)
    torch.testing.assert_close(state_divergences(student, sets, name, FINITE[name], temperature), rows)


@pytest.mark.parametrize("name", NAMES)
def test_sets_of_all_tokens_are_the_live_teacher(models, name):
    sets = top_p_sets(models[1].logits().softmax(-1), 1.0)
    found, expected = (
        with_gradients(lambda states, own=own: divergence_loss(states, own, name, NAMES[name]), models[0])
        for own in (sets, models[1])
    )
    torch.testing.assert_close((found[0].total, found[1]), (expected[0].total, expected[1]))


def test_forward_kl_on_sets_is_their_cross_entropy_less_a_constant(models):
    sets = top_p_sets(models[1].logits().softmax(-1), 0.8)
    tokens = torch.zeros(50, dtype=torch.long)
    kl, gradient, _ = with_gradients(lambda states: divergence_loss(states, sets, "forward_kl"), models[0])
    nll, other, _ = with_gradients(lambda states: set_nll(states, tokens, sets, 1.0), models[0])
    torch.testing.assert_close(gradient, other)
    aim = sets.probs / sets.mass[sets.rows]
    torch.testing.assert_close(kl.total, nll.total + (aim * aim.log()).sum())


@pytest.mark.parametrize(
    ("name", "weight"), [("reverse_kl", None), ("jsd", 1.0), ("skew_reverse_kl", 0.0), ("remainder_kl", 0.7)]
)
def test_what_is_infinite_outside_a_set_is_refused(models, name, weight):
    sets = top_p_sets(models[1].logits().softmax(-1), 0.8)
    for function in (divergence_loss, state_divergences):
        with pytest.raises(ConfigError, match=f"expected one that is right .* found {name} of weight {weight}"):
            function(models[0], sets, name, weight)
    with pytest.raises(DataError, match="candidate sets: expected one for each of 50 states, found 49"):
        divergence_loss(models[0], sets[:49], "forward_kl")
