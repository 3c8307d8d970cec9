"""Losses on states: chunks change nothing, nothing of size states x vocabulary is made, and errors."""

import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from distill.errors import DataError
from distill.losses.candidate_sets import top_p_sets
from distill.losses.cross_entropy import distilled_nll, token_nll
from distill.losses.divergences import divergence_loss, state_divergences
from distill.losses.guidance import Guidance
from distill.losses.log_probs import bucket_log_probs, token_log_probs, token_scores, top_log_probs
from distill.losses.policy_gradient import Surrogate, on_policy_loss
from distill.losses.preference import (
    advantage_loss,
    bucket_entropy,
    bucket_of_tokens,
    dpo_rewards,
    preference_loss,
    released_rewards,
    soft_values,
)
from distill.losses.states import (
    _PART,
    ChunkLogits,
    States,
    argmax,
    autograd_loss,
    gather_logits,
    softmax_,
    softmax_entropy,
    top_tokens,
)
from distill.losses.terms import LossTerms, join_terms
from distill.methods.bd.objective import bellman
from distill.methods.bd.section import Bellman
from distill.methods.minillm.objective import policy_loss, reverse_kl
from states import LENGTHS, VOCABULARY, World, as_states, draw_world, furthest, with_gradients

Loss = Callable[[States, World], LossTerms]


def bd(options: Bellman) -> Loss:
    return lambda states, world: bellman(states, world.trajectories, world.candidates, options)


def policy(states: States, world: World, teacher: bool = True) -> LossTerms:
    """The policy loss of rollouts that an earlier student drew; some ratios are clipped."""
    old = token_log_probs(states.detach(), world.tokens) + (world.tokens % 5 - 2) / 8
    weights, advantages = 1.2 - world.tokens % 3 / 5, 2 - world.tokens % 4
    return policy_loss(states, world.tokens, old, advantages, weights, 0.2, world.teacher if teacher else None)


def smoothed(states: States, world: World) -> LossTerms:
    """Any function of logits."""

    def function(logits: Tensor, rows: slice) -> Tensor:
        return cross_entropy(logits, world.tokens[rows], label_smoothing=0.1, reduction="sum")

    total = autograd_loss(states, function)
    return LossTerms(total, total.new_tensor(len(world.tokens)))


def guided(form: str, k: int) -> Loss:
    """Surrogate, guidance on the teacher's likeliest tokens or on the sampled ones, entropy and reverse KL."""

    def loss(states: States, world: World) -> LossTerms:
        old = token_log_probs(states.detach(), world.tokens) + (world.tokens % 5 - 2) / 8
        log_p, ids = top_log_probs(world.teacher, k)
        if k == 1:
            ids = world.tokens[:, None]
            log_p = token_log_probs(world.teacher, ids)
        surrogate, guidance = Surrogate(old, 2 - world.tokens % 4, 0.2), Guidance(form, ids, log_p, 0.5)
        return on_policy_loss(states, world.tokens, surrogate, guidance, 0.1, world.teacher)

    return loss


def divergence(name: str, weight: float | None = None, **keys) -> Loss:
    """A divergence in which the states count differently."""

    def loss(states: States, world: World) -> LossTerms:
        factors = (1 + world.tokens % 3).to(world.student.hidden.dtype) / 2
        return divergence_loss(states, world.teacher, name, weight, temperature=0.9, state_weights=factors, **keys)

    return loss


def softened(states: States) -> States:
    """Another model of the same vocabulary."""
    return replace(states, hidden=states.hidden / 2)


def preferred(states: States, world: World) -> LossTerms:
    """DPO on the world's responses, less what the released code of TVKD takes from the student's buckets."""
    lengths, ids = torch.tensor(LENGTHS) + 1, top_log_probs(world.teacher, 4)[1]
    log_q = bucket_log_probs(states, ids)
    log_r = token_log_probs(world.teacher, world.tokens)
    rewards = dpo_rewards(token_log_probs(states, world.tokens), log_r, lengths, 0.1)
    own = bucket_of_tokens(log_q, ids, world.tokens)
    return preference_loss(rewards + released_rewards(own, bucket_entropy(log_q), lengths) / 9)


def coupled(states: States, world: World) -> LossTerms:
    """A loss in which each state's gradient depends on all states' log-probabilities and entropies."""
    scores = token_scores(states, torch.stack([world.tokens, world.tokens.flip(0)], 1))
    total = scores.log_probs.sum(0).logsumexp(0) + scores.entropy.sum().square() / 100
    return LossTerms(total, total.new_tensor(1.0))


ON_CANDIDATES = {
    "sampled": (0.8, bd(Bellman())),
    "sampled, with tokens outside": (0.8, bd(Bellman(oos_action="include", reduction="sequence"))),
    "sampled, unshifted": (0.8, bd(Bellman(q_shift="none", q_min=None))),
    "expected": (0.8, bd(Bellman(objective="expected"))),
}
SUMS = ON_CANDIDATES | {
    "sampled, lse": (0.8, bd(Bellman(q_shift="lse"))),
    "sampled, p = 1": (1.0, bd(Bellman())),
    "released": (0.8, bd(Bellman(objective="released", p=0.8))),
    "released, p = 1": (1.0, bd(Bellman(objective="released", p=1.0))),
    "sft": (0.8, lambda states, world: token_nll(states, world.tokens)),
    "kd": (0.8, lambda states, world: distilled_nll(states, world.tokens, world.teacher, 0.5)),
    "policy": (0.8, lambda states, world: policy(states, world, teacher=False)),
    "policy and reverse KL": (0.8, policy),
    "guided, forward": (0.8, guided("forward", 5)),
    "guided, k2": (0.8, guided("k2", 1)),
    "jsd": (0.8, divergence("jsd", 0.3)),
    "jsd on sets": (0.8, lambda states, world: divergence_loss(states, world.candidates, "jsd", 0.3)),
    "skew kl": (0.8, divergence("skew_kl", 0.1)),
    "skew reverse kl": (0.8, divergence("skew_reverse_kl", 0.1)),
    "skew reverse kl, detached": (0.8, divergence("skew_reverse_kl", 0.1, detach_mixture=True)),
    "forward kl": (0.8, divergence("forward_kl")),
    "reverse kl": (0.8, divergence("reverse_kl")),
    "total variation": (0.8, divergence("total_variation")),
    "teachers' advantage": (0.8, lambda states, world: advantage_loss(states, world.teacher, softened(world.teacher))),
    "by autograd": (0.8, smoothed),
}
BY_VALUES = {"of all states": (0.8, coupled), "preference": (0.8, preferred)}
LOSSES = SUMS | BY_VALUES
IN_BACKWARD = {*ON_CANDIDATES, *BY_VALUES}
"""Losses that form their gradients in the backward pass."""
VALUES = {
    "log-probabilities": lambda states, world: token_log_probs(states, world.tokens),
    "reverse KL": lambda states, world: reverse_kl(states, world.teacher),
    "jsd": lambda states, world: state_divergences(states, world.teacher, "jsd", 0.3, 0.9),
    "soft values": lambda states, world: soft_values(states, 0.7, 2.0),
    "entropy": lambda states, world: softmax_entropy(states),
    "top tokens": lambda states, world: top_tokens(states),
}
CHUNKS = {"a state": VOCABULARY, "a sequence": VOCABULARY * (max(LENGTHS) + 1), "some": VOCABULARY * 10 + 5}


def in_chunks(world: World, logits: int) -> World:
    models = (replace(states, chunk_logits=logits) for states in (world.student, world.teacher))
    return World(*models, world.trajectories, world.candidates, world.tokens)


def result(loss: Loss, world: World):
    return with_gradients(lambda states: loss(states, world), world.student)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_loss_does_not_depend_on_its_chunks(name, chunk):
    p, loss = LOSSES[name]
    world = draw_world(p, dtype=torch.float32)
    cut = in_chunks(world, CHUNKS[chunk])
    assert 1 < len(cut.student.chunks()) <= len(world.tokens) and len(world.student.chunks()) == 1
    assert furthest(result(loss, cut), result(loss, world)) < 1e-6


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_value_does_not_depend_on_its_chunks(name, chunk):
    world = draw_world(0.8)
    cut = in_chunks(world, CHUNKS[chunk])
    found, expected = (VALUES[name](own.student, own) for own in (cut, world))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_chunks_cover_all_states_and_keep_groups_together():
    states = replace(draw_world(0.8).student, chunk_logits=10 * VOCABULARY)
    assert states.chunks() == [slice(0, 10), slice(10, 20), slice(20, 26)]
    assert states.chunks([6, 2, 5, 2, 7, 4]) == [slice(0, 8), slice(8, 15), slice(15, 22), slice(22, 26)]
    assert replace(states, chunk_logits=1).chunks([14, 12]) == [slice(0, 14), slice(14, 26)]


@pytest.mark.parametrize("name", SUMS)
def test_micro_batches_add_up(name):
    p, loss = LOSSES[name]
    world = draw_world(p, dtype=torch.float32)
    parts = [world[:2], world[2:]]
    whole, *pieces = (result(loss, own) for own in (world, *parts))
    terms = [piece[0] for piece in pieces]
    joined = join_terms(sum(term.total for term in terms), terms)
    gradients = torch.cat([piece[1] for piece in pieces]), sum(piece[2] for piece in pieces)
    assert furthest((joined, *gradients), whole) < 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_a_factor_in_the_backward_pass_scales_the_gradients(name):
    p, loss = LOSSES[name]
    world = draw_world(p)
    _, *expected = result(loss, world)
    _, *found = with_gradients(lambda states: replace(own := loss(states, world), total=own.total * -3), world.student)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, -3 * other, rtol=1e-12, atol=1e-12)


class Made(TorchDispatchMode):
    """Records how many numbers lie behind each tensor that operations make, and which of them are still held.

    Views of `given` are not counted.
    """

    def __init__(self, *given: Tensor):
        super().__init__()
        self.given = {tensor.untyped_storage().data_ptr() for tensor in given}
        self.seen: list[tuple[weakref.ref, int, int]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **kwargs or {})
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and (place := tensor.untyped_storage().data_ptr()) not in self.given:
                size = tensor.untyped_storage().nbytes() // tensor.element_size()
                self.seen.append((weakref.ref(tensor), place, size))
        return output

    @property
    def sizes(self) -> list[int]:
        return [size for _, _, size in self.seen]

    @property
    def held(self) -> int:
        return sum({place: size for tensor, place, size in self.seen if tensor() is not None}.values())


def widened(world: World, vocabulary: int) -> World:
    """The world over more tokens, each with a logit of -60: the losses stay as they are."""

    def widen(states: States) -> States:
        hidden = torch.cat([states.hidden, torch.ones_like(states.hidden[:, :1])], 1)
        weight = states.weight.new_zeros(vocabulary, hidden.shape[1])
        weight[:VOCABULARY, :-1], weight[VOCABULARY:, -1] = states.weight[:VOCABULARY], -60
        return States(hidden, weight, vocabulary, 8 * vocabulary)

    student, teacher = widen(world.student), widen(world.teacher)
    return replace(world, student=student, teacher=teacher, trajectories=replace(world.trajectories))


def record(loss: Loss, world: World) -> tuple[list[int], list[int], int]:
    """Returns the sizes of what the forward and the backward pass make, and what is held between them."""
    hidden, weight = (own.clone().requires_grad_() for own in (world.student.hidden, world.student.weight))
    given = hidden, weight, world.teacher.hidden, world.teacher.weight
    with Made(*given) as forward:
        total = loss(replace(world.student, hidden=hidden, weight=weight), world).total
    held = forward.held
    with Made(*given) as backward:
        total.backward()
    return forward.sizes, backward.sizes, held


WIDE, WIDER = 1024, 2048


@pytest.mark.parametrize("name", LOSSES)
def test_no_tensor_is_larger_than_a_chunk_and_only_gradients_are_kept(name):
    p, loss = LOSSES[name]
    world = draw_world(p, dtype=torch.float32)
    held = []
    for vocabulary in (WIDE, WIDER):
        wide = widened(world, vocabulary)
        assert len(wide.tokens) > 3 * 8 and wide.student.weight.numel() == 9 * vocabulary
        forward, backward, kept = record(loss, wide)
        assert {size for size in forward + backward if size > 8 * vocabulary} == {9 * vocabulary}
        held.append(kept - (name not in IN_BACKWARD) * 9 * vocabulary)
    assert held[0] == held[1] < 8 * WIDE, "what is kept grows with the vocabulary"


def test_the_record_sees_the_logits_that_a_plain_loss_keeps():
    """The control of the test above."""
    world = widened(draw_world(0.8, dtype=torch.float32), WIDE)

    def plain(states, own):
        total = cross_entropy(states.logits(), own.tokens)
        return LossTerms(total, total.new_tensor(1.0))

    forward, backward, held = record(plain, world)
    assert min(max(forward), max(backward), held) >= len(world.tokens) * WIDE


@pytest.mark.parametrize("name", ON_CANDIDATES)
def test_on_candidates_the_backward_pass_knows_the_vocabulary_by_the_gradient_of_the_weight_alone(name):
    p, loss = LOSSES[name]
    world, made = draw_world(p, dtype=torch.float32), []
    for vocabulary in (WIDE, WIDER):
        _, sizes, _ = record(loss, widened(world, vocabulary))
        made.append(["weight" if size == 9 * vocabulary else size for size in sizes])
    assert made[0] == made[1] and "weight" in made[0]


@pytest.mark.parametrize("name", LOSSES)
def test_without_gradient_none_is_formed(name):
    p, loss = LOSSES[name]
    world = widened(draw_world(p, dtype=torch.float32), WIDE)
    expected = loss(world.student, world).total
    hidden, weight = (own.clone().requires_grad_() for own in (world.student.hidden, world.student.weight))
    with torch.no_grad(), Made(hidden, weight, world.teacher.weight) as made:
        total = loss(replace(world.student, hidden=hidden, weight=weight), world).total
    assert torch.equal(total, expected) and not total.requires_grad
    assert max(made.sizes) <= 8 * WIDE < weight.numel(), "the gradient of the weight is larger than a chunk"


@pytest.mark.parametrize("vocabulary", [1, 5, 127, 128, 129, 300, 1000])
def test_argmax_is_that_of_torch_and_the_first_among_equals(vocabulary):
    generator = torch.Generator().manual_seed(vocabulary)
    logits = torch.randn(60, vocabulary, generator=generator)
    for given in (logits, logits.round(), torch.zeros_like(logits), -logits.exp() * 1e30):
        first = (given == given.amax(-1, keepdim=True)).int().argmax(-1)
        assert torch.equal(argmax(given), first) and torch.equal(top_tokens(as_states(given)), first)
    assert torch.equal(argmax(logits), torch.argmax(logits, -1))


def test_any_function_of_logits_has_the_gradients_of_plain_autograd():
    world = draw_world(0.8)
    terms, *gradients = result(smoothed, in_chunks(world, 5 * VOCABULARY))
    hidden, weight = (own.clone().requires_grad_() for own in (world.student.hidden, world.student.weight))
    logits = hidden @ weight[:VOCABULARY].T
    total = cross_entropy(logits, world.tokens, label_smoothing=0.1, reduction="sum")
    expected = torch.autograd.grad(total, (hidden, weight))
    torch.testing.assert_close((terms.total.detach(), *gradients), (total.detach(), *expected))


def test_entropy():
    world = draw_world(0.8)
    policy = world.student.logits().softmax(-1)
    torch.testing.assert_close(softmax_entropy(world.student), -(policy * policy.log()).sum(-1))


def test_a_softmax_of_many_small_terms_is_exact():
    logits = 4 * torch.randn(2, 150_000, generator=torch.Generator().manual_seed(0))
    exact = logits.double().softmax(-1)
    torch.testing.assert_close(softmax_(logits.clone()).double(), exact, rtol=4e-6, atol=0)


def half_precision(offset: float, p: float = 0.8) -> tuple[World, World]:
    """Returns a world in bfloat16, all logits with an offset by one more channel, and the same numbers in float64."""

    def shift(states: States, dtype: torch.dtype) -> States:
        parts = zip((states.hidden, states.weight), (1.0, offset), strict=True)
        hidden, weight = (torch.nn.functional.pad(own, (0, 1), value=value).bfloat16() for own, value in parts)
        return replace(states, hidden=hidden.to(dtype), weight=weight.to(dtype))

    world = draw_world(p)
    return tuple(
        replace(world, student=shift(world.student, dtype), teacher=shift(world.teacher, dtype))
        for dtype in (torch.bfloat16, torch.float64)
    )


OFFSETS = (0.0, -100.0)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_rounds_gradients_once_and_nothing_else(name, offset, monkeypatch):
    """The head is worked on in parts of 5 tokens; the bound is half a step of bfloat16."""
    monkeypatch.setitem(_PART, "cpu", 5 * 9)
    p, loss = LOSSES[name]
    found, expected = (result(loss, world) for world in half_precision(offset, p))
    assert found[0].total.dtype == torch.float32 and {own.dtype for own in found[1:]} == {torch.bfloat16}
    torch.testing.assert_close(found[0].total.double(), expected[0].total, rtol=1e-4, atol=1e-4)
    for own, exact in zip(found[1:], expected[1:], strict=True):
        assert (own.double() - exact).norm() < 2**-8 * exact.norm()


@pytest.mark.parametrize("offset", OFFSETS)
def test_values_of_half_precision_states_are_those_of_float32_logits(offset):
    half, exact = half_precision(offset)
    for name in ("log-probabilities", "reverse KL", "entropy"):
        torch.testing.assert_close(
            VALUES[name](half.student, half).double(), VALUES[name](exact.student, exact), atol=1e-4, rtol=0
        )
    top = top_tokens(half.student)
    assert torch.equal(top, top_tokens(exact.student))
    rows, ids = torch.cartesian_prod(torch.arange(len(top)), torch.arange(VOCABULARY)).T
    logits = gather_logits(half.student, rows, ids).view(len(top), VOCABULARY)
    q = logits - logits.gather(1, top[:, None])
    assert q.max() == 0, "Q is above that of the largest logit"
    probs = torch.cat([ChunkLogits(half.teacher)[chunk].softmax(-1) for chunk in half.teacher.chunks()])
    for p in (0.5, 0.8, 0.95):
        assert torch.equal(top_p_sets(probs, p).ids, top_p_sets(exact.teacher.logits().softmax(-1), p).ids)


def test_the_largest_logit_is_not_lost_in_the_rounding_of_half_precision():
    """-76.2 and -76.05 are one number in bfloat16, and the first place of equals would win."""
    states = States(torch.ones(1, 2).bfloat16(), torch.tensor([[-76, -0.2], [-76, -0.05]]).bfloat16(), 2)
    setting = torch.backends.mkldnn.matmul.fp32_precision
    assert top_tokens(states).tolist() == [1]
    assert torch.backends.mkldnn.matmul.fp32_precision == setting, "other products would lose digits"
    assert len(set(states.logits().bfloat16().flatten().tolist())) == 1
    assert softmax_entropy(states).item() == pytest.approx(0.6904, abs=1e-3)


PAIRS = torch.tensor([0, 3, 3, 25, 7, 3]), torch.tensor([36, 2, 2, 0, 9, 5])


@pytest.mark.parametrize("at_once", [1, 20, 10**6])
def test_gathered_logits_are_those_of_the_pairs(at_once):
    states = replace(draw_world(0.8).student, chunk_logits=at_once)
    torch.testing.assert_close(gather_logits(states, *PAIRS), states.logits()[PAIRS])
    hidden, weight = (own.clone().requires_grad_() for own in (states.hidden, states.weight))
    assert torch.autograd.gradcheck(
        lambda *own: gather_logits(States(*own, VOCABULARY, at_once), *PAIRS), (hidden, weight)
    )


def test_gathered_logits_of_half_precision_are_computed_in_float32():
    states = draw_world(0.8, dtype=torch.bfloat16).student
    exact = replace(states, hidden=states.hidden.double(), weight=states.weight.double())
    found = gather_logits(states, *PAIRS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), gather_logits(exact, *PAIRS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loss", [LOSSES["kd"][1], policy, VALUES["reverse KL"]])
@pytest.mark.parametrize(
    ("change", "found"),
    [(lambda own: own[1:], "25 over 37"), (lambda own: replace(own, vocabulary=36), "26 over 36")],
)
def test_teacher_states_of_another_number_or_vocabulary_are_refused(loss, change, found):
    world = draw_world(0.8)
    line = f"teacher states: expected the student's 26 states over 37 tokens, found {found}; cut both models to"
    with pytest.raises(DataError, match=line) as caught:
        loss(world.student, replace(world, teacher=change(world.teacher)))
    assert "\n" not in str(caught.value)
