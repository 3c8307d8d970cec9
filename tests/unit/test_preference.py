"""Losses on preference pairs: oracles, identities, and what shaping can and cannot do."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill.errors import ConfigError, DataError
from distill.losses.log_probs import bucket_log_probs, token_log_probs, top_log_probs
from distill.losses.preference import (
    advantage_loss,
    bucket_entropy,
    bucket_of_tokens,
    bucket_values,
    control_offsets,
    dpo_rewards,
    next_values,
    pair_kl,
    preference_loss,
    released_rewards,
    sequence_sums,
    shaping_sums,
    soft_values,
)
from distill.losses.terms import LossTerms
from states import as_states, with_gradients

ORACLES = json.loads((Path(__file__).parents[1] / "golden" / "further_oracles.json").read_text())
CASES = {case["id"]: case for case in ORACLES["cases"] if case["batch"] == "pairs"}
DOUBLE = torch.float64
TOLERANCE = {DOUBLE: 1e-9, torch.float32: 1e-5}


class Pairs:
    """The oracle's responses end to end, chosen and rejected in turn, or only some of each one's states."""

    def __init__(self, dtype=DOUBLE, chunk_states=1000, content_only=False):
        sides = [pair[side] for pair in ORACLES["batches"]["pairs"] for side in ("chosen", "rejected")]
        self.lengths = torch.tensor([len(own["tokens"]) - content_only for own in sides])

        def join(name, dtype):
            parts = zip(sides, self.lengths, strict=True)
            return torch.cat([torch.tensor(own[name], dtype=dtype)[:length] for own, length in parts])

        self.tokens = join("tokens", torch.long)
        self.student, self.teacher, self.teacher_reference, self.reference = (
            replace(as_states(join(name, dtype)), chunk_logits=6 * chunk_states)
            for name in ("student", "teacher", "teacher_reference", "reference")
        )
        self.log_r = token_log_probs(self.reference, self.tokens)

    def dpo(self, states, beta, offsets=None):
        return preference_loss(
            dpo_rewards(token_log_probs(states, self.tokens), self.log_r, self.lengths, beta, offsets)
        )

    def shaping(self, options, final=None):
        values = soft_values(self.teacher, options["exponent"], options["value_scale"])
        return shaping_sums(values, self.lengths, options["discount"], final)

    def buckets(self, states, k):
        """Returns the teacher's buckets, both models' log-probabilities in them, and the student's of the tokens."""
        ids = top_log_probs(self.teacher, k)[1]
        log_p, log_q = (bucket_log_probs(own, ids) for own in (self.teacher, states))
        return log_p, log_q, bucket_of_tokens(log_q, ids, self.tokens)

    def released(self, states, options, padding=False):
        log_p, log_q, own = self.buckets(states, options["top_k"])
        if options["variant"] == "repo_recipe":
            values = bucket_entropy(log_q)
        else:
            values = bucket_values(log_p, options["exponent"], log_q, options["student_exponent"])
        invariant = options["variant"] == "repo_policy_invariant"
        rewards = released_rewards(own, values, self.lengths, options["discount"], invariant)
        if padding:  # the value of 1e-8 in each bucket, where a response is shorter than the longest
            constant = math.log(4) + 0.7 * math.log(1e-8)
            rewards = rewards - constant * (self.lengths < self.lengths.max()).to(rewards.dtype)
        return preference_loss(rewards)

    def loss(self, states, case):
        options = CASES[case]["options"]
        variant = options.get("variant")
        if case == "adpa":
            rows = torch.arange(4).repeat_interleave(self.lengths) % 2 == 1
            return advantage_loss(states[rows], self.teacher[rows], self.teacher_reference[rows])
        if case == "dckd top_k=3":
            log_p, log_q, _ = self.buckets(states, 3)
            rows = torch.arange(4).repeat_interleave(self.lengths) % 2
            kl = (log_p.exp() * (log_p - log_q)).sum(-1)
            return mixed(options, *(LossTerms(kl[rows == side].sum(), (rows == side).sum()) for side in (0, 1)))
        if case.startswith("dckd"):
            return mixed(options, *pair_kl(states, self.teacher, self.lengths))
        if variant == "dpo":
            return self.dpo(states, options["beta"])
        if variant == "shaping":
            return self.dpo(states, options["beta"], options["lambda"] * self.shaping(options))
        if variant == "tpkd_ref":
            b = options["temperature"]
            shaping = self.shaping({"exponent": 1 / b, "value_scale": b, "discount": options["discount"]})
            return self.dpo(states, options["beta"], options["alpha"] * shaping)
        return self.released(states, options, options.get("released_padding", False))


def mixed(options, chosen, rejected):
    total = options["chosen_weight"] * chosen.mean + options["rejected_weight"] * rejected.mean
    outputs = {"chosen": chosen.mean.detach(), "rejected": rejected.mean.detach()}
    return LossTerms(total, total.new_tensor(1.0), outputs)


@pytest.mark.parametrize("chunk_states", [1, 5, 1000])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_the_oracle(case, dtype, chunk_states):
    content_only = CASES[case]["options"].get("content_only", False)
    pairs = Pairs(dtype, chunk_states, content_only)
    terms, gradient, _ = with_gradients(lambda states: pairs.loss(states, case), pairs.student)

    def check(found, expected):
        expected = torch.as_tensor(expected, dtype=DOUBLE)
        torch.testing.assert_close(found.detach().double(), expected, rtol=0, atol=TOLERANCE[dtype])

    check(terms.mean, CASES[case]["loss"])
    kept = zip(CASES[case]["gradients"], pairs.lengths, strict=True)
    check(gradient / terms.weight, [row for response, length in kept for row in response[:length]])
    outputs = CASES[case]["outputs"]
    if "margins" in outputs:
        check(terms.metrics["margin"][0] / 2, sum(outputs["margins"]) / 2)
        assert terms.metrics["accuracy"][0] == sum(margin > 0 for margin in outputs["margins"])
    if "chosen" in outputs:
        for side in ("chosen", "rejected"):
            check(terms.parts[side], outputs[side])


def test_the_loss_of_a_margin_and_of_its_opposite():
    rewards = torch.tensor([0.3, 0.3, 2.0, -1.0], dtype=DOUBLE, requires_grad=True)
    terms = preference_loss(rewards)
    (gradient,) = torch.autograd.grad(terms.total, rewards)
    assert terms.total.item() == pytest.approx(math.log(2) + math.log1p(math.exp(-3)))
    share = 1 / (1 + math.exp(3))
    torch.testing.assert_close(gradient, torch.tensor([-0.5, 0.5, -share, share], dtype=DOUBLE))
    assert (terms.weight, terms.metrics["accuracy"][0], terms.metrics["margin"][0]) == (2, 1, 3)
    swapped = preference_loss(rewards.view(2, 2).flip(1).flatten())
    assert swapped.metrics["margin"][0] == -3 and swapped.metrics["accuracy"][0] == 0
    far = preference_loss(torch.tensor([0.0, 1e4, 1e4, 0.0], requires_grad=True))
    assert far.total == 1e4, "no overflow"
    with pytest.raises(DataError, match="pairs: expected chosen and rejected in turn, found 3 responses"):
        preference_loss(rewards[:3])


@pytest.fixture
def pairs():
    return Pairs()


def margins(pairs, offsets):
    """Returns the margin of each pair at beta 0.1, [2]."""
    log_probs = token_log_probs(pairs.student, pairs.tokens)
    chosen, rejected = dpo_rewards(log_probs, pairs.log_r, pairs.lengths, 0.1, offsets).view(-1, 2).unbind(1)
    return chosen - rejected


VALUES = {"exponent": 0.7, "value_scale": 1.0, "discount": 0.7}


def test_offsets_shift_margins_and_weigh_pairs_anew(pairs):
    """An offset D of a margin m multiplies DPO's gradient by sigmoid(D - m) / sigmoid(-m), pair by pair."""
    psi = pairs.shaping(VALUES)
    plain, shaped = (margins(pairs, own) for own in (None, psi))
    distance = psi.view(2, 2) @ torch.tensor([-1.0, 1.0], dtype=DOUBLE)
    torch.testing.assert_close(shaped, plain - distance)
    dpo, tvkd = (
        with_gradients(lambda states, own=own: pairs.dpo(states, 0.1, own), pairs.student)[1] for own in (None, psi)
    )
    factors = (distance - plain).sigmoid() / (-plain).sigmoid()
    by_state = factors.repeat_interleave(pairs.lengths.view(2, 2).sum(1))
    torch.testing.assert_close(tvkd, by_state[:, None] * dpo)
    assert (factors - 1).abs().min() > 0.01


def test_without_a_weight_it_is_dpo_bit_for_bit(pairs):
    results = [
        with_gradients(lambda states, own=own: pairs.dpo(states, 0.1, own), pairs.student)
        for own in (None, 0.0 * pairs.shaping(VALUES))
    ]
    assert torch.equal(results[0][0].total, results[1][0].total) and torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("change", [{"discount": 1.0}, {"exponent": 1.0}])
def test_a_potential_in_an_episode_and_a_normalised_policy_leave_dpo(pairs, change):
    plain, shaped = (margins(pairs, own) for own in (None, pairs.shaping(VALUES | change)))
    torch.testing.assert_close(shaped, plain, rtol=0, atol=1e-12)


def test_a_constant_in_the_values_counts_tokens(pairs):
    """The first state is common to a pair and cancels."""
    values, starts = soft_values(pairs.teacher, 0.7), pairs.lengths.cumsum(0) - pairs.lengths
    plain = shaping_sums(values, pairs.lengths, 0.7)
    at_start = values.index_put((starts,), torch.tensor(5.0, dtype=DOUBLE), accumulate=True)
    torch.testing.assert_close(shaping_sums(at_start, pairs.lengths, 0.7), plain - 5)
    lifted = shaping_sums(values + 2, pairs.lengths, 0.7)
    longer = (pairs.lengths.view(2, 2) @ torch.tensor([1, -1])).double()
    difference = (lifted - plain).view(2, 2) @ torch.tensor([1.0, -1.0], dtype=DOUBLE)
    torch.testing.assert_close(difference, -0.3 * 2 * longer)


def test_sums_and_next_values_by_hand():
    values, lengths = torch.tensor([1.0, 2.0, 5.0], dtype=DOUBLE), torch.tensor([2, 1])
    assert next_values(values, lengths).tolist() == [2, 0, 0]
    assert next_values(values, lengths, torch.tensor([7, 8])).tolist() == [2, 7, 8]
    assert sequence_sums(values, lengths).tolist() == [3, 5]
    assert shaping_sums(values, lengths, 0.7).tolist() == pytest.approx([-1 - 0.3 * 2, -5])
    assert shaping_sums(values, lengths, 0.5, torch.tensor([4.0, 2.0])).tolist() == pytest.approx([0, -4])
    log_probs = torch.tensor([-1.0, -2.0, -3.0], dtype=DOUBLE)
    assert released_rewards(log_probs, values, lengths, 0.5).tolist() == pytest.approx([-4, -3])
    assert released_rewards(log_probs, values, lengths, 0.5, invariant=True).tolist() == pytest.approx([-1, 2])


@pytest.mark.parametrize(
    ("probabilities", "exponent", "scale", "value"),
    [
        ([1.0, 0.0, 0.0, 0.0], 0.7, 1.0, 0.0),
        ([0.25] * 4, 0.7, 1.0, 0.415888),
        ([0.5, 0.25, 0.25, 0.0], 0.5, 1.0, 0.534800),
        ([0.5, 0.25, 0.25, 0.0], 0.5, 2.0, 1.069600),
        ([0.5, 0.25, 0.25, 0.0], 1.0, 1.0, 0.0),
    ],
)
def test_values_by_hand(probabilities, exponent, scale, value):
    states = as_states(torch.tensor([probabilities], dtype=DOUBLE).log().clamp(min=-1e4) + 3)
    assert soft_values(states, exponent, scale).item() == pytest.approx(value, abs=1e-6)


def identical(variant):
    """Returns loss and gradient where both sides are one response."""
    pairs = Pairs()
    rows = torch.arange(3).repeat(2)
    for name in ("student", "teacher", "reference"):
        setattr(pairs, name, getattr(pairs, name)[rows])
    pairs.tokens, pairs.log_r, pairs.lengths = pairs.tokens[rows], pairs.log_r[rows], torch.tensor([3, 3])
    return with_gradients(lambda states: pairs.loss(states, variant), pairs.student)


PAIRWISE = [name for name in CASES if name.startswith(("dpo", "tvkd")) and "content" not in name]


@pytest.mark.parametrize("case", PAIRWISE)
def test_identical_sides_teach_nothing(case):
    terms, gradient, _ = identical(case)
    assert terms.total.item() == pytest.approx(math.log(2))
    by_token = gradient.view(2, 3, 6)
    torch.testing.assert_close(by_token[0], -by_token[1], rtol=0, atol=1e-12)  # which cancel in one network


def test_buckets_of_almost_all_tokens_are_the_vocabulary(pairs):
    """In value and gradient; the last bucket then holds one token, or none."""
    log_p = pairs.teacher.logits().log_softmax(-1)

    def dense(states):
        log_q = states.logits().log_softmax(-1)
        values = (0.7 * log_p + 0.3 * log_q).logsumexp(-1)
        return preference_loss(released_rewards(token_log_probs(states, pairs.tokens), values, pairs.lengths))

    expected = with_gradients(dense, pairs.student)
    options = {"variant": "repo_sum", "exponent": 0.7, "student_exponent": 0.3, "discount": 1.0}
    for k in (5, 6):
        found = with_gradients(lambda states, k=k: pairs.released(states, options | {"top_k": k}), pairs.student)
        torch.testing.assert_close((found[0].total, found[1]), (expected[0].total, expected[1]))


@pytest.mark.parametrize("control", ["shuffled", "constant"])
def test_controls_keep_the_mean_and_know_no_pair(control):
    offsets = torch.randn(200, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    found = control_offsets(offsets, control, 1)
    torch.testing.assert_close(found.view(-1, 2).mean(0), offsets.view(-1, 2).mean(0))
    same = {tuple(pair) for pair in found.view(-1, 2).tolist()} == {
        tuple(pair) for pair in offsets.view(-1, 2).tolist()
    }
    assert same == (control == "shuffled")
    assert (found == offsets).double().mean() < 0.1
    assert torch.equal(found, control_offsets(offsets, control, 1))
    assert torch.equal(found, control_offsets(offsets, control, 2)) == (control == "constant")
    with pytest.raises(ConfigError, match="control: expected shuffled or constant, found 'none'"):
        control_offsets(offsets, "none", 0)


def test_a_clamp_meant_for_probabilities_loses_negative_advantages(pairs):
    """The loss of ADPA and of its released form, and their gradients, written out."""
    advantages = pairs.teacher.logits().log_softmax(-1) - pairs.teacher_reference.logits().log_softmax(-1)
    for clamp, expected in ((False, advantages), (True, advantages.clamp(1e-8, 1 - 1e-8))):
        terms, gradient, _ = with_gradients(
            lambda states, clamp=clamp: advantage_loss(states, pairs.teacher, pairs.teacher_reference, clamp),
            pairs.student,
        )
        logits = pairs.student.hidden.clone().requires_grad_()
        total = -(logits.softmax(-1) * expected).sum()
        torch.testing.assert_close(
            (terms.total.detach(), gradient), (total.detach(), torch.autograd.grad(total, logits)[0])
        )
    assert (advantages < 0).any()
