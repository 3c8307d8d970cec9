"""Rollouts: groups of answers, which prompts a round has, what the sampler draws and keeps, and saving."""

from types import SimpleNamespace

import pytest
import torch

from distill.data.tokens import Encoded
from distill.models.load import load_model
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences
from distill.rollouts.rollout import Rollout, join_scores, load_rollouts, save_rollouts
from distill.rollouts.rounds import Rounds
from distill.rollouts.sampler import Sampler
from tiny_models import EOS_ID, make_model

PROMPTS = [Encoded(f"p{i}", "", [5 + i, 6 + 3 * i], [EOS_ID]) for i in range(6)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return PackedModel(load_model(make_model(tmp_path_factory.mktemp("model"), initializer_range=0.3)))


def alone(model, rank=0, world=1):
    return SimpleNamespace(model=model, rank=rank, world=world, gather=lambda values: values)


def top_tokens_and_entropies(student, batch, seeds):
    logits = student.states(batch).logits().log_softmax(-1)
    return {"top": logits.argmax(-1), "two": logits.topk(2).values}


def test_a_group_answers_one_prompt_several_times(model):
    rounds = Rounds(PROMPTS, Sampler(EOS_ID, 8, 5), 12, 2, (1, "mine"), group=4)
    first = rounds.prepare(alone(model), 0)
    assert rounds.prepare(alone(model), 1) is first, "a round lasts two updates"
    second = list(rounds.prepare(alone(model), 2))
    third = rounds.prepare(alone(model), 4)
    for number, drawn in enumerate((first, second, third)):
        groups = [drawn[start : start + 4] for start in range(0, 12, 4)]
        asked = [rounds.prompts[(3 * number + place) % 6].prompt_ids for place in range(3)]
        assert [[own.prompt_ids for own in group] for group in groups] == [[prompt] * 4 for prompt in asked]
        assert [rounds.prompt(index, 2 * number).prompt_ids for index in range(0, 12, 4)] == asked
        assert all(len({tuple(own.response_ids) for own in group}) > 1 for group in groups)
    # Seen again, a prompt gets other answers.
    assert [own.prompt_ids for own in third] == [own.prompt_ids for own in first]
    assert all(one.response_ids != two.response_ids for one, two in zip(first, third, strict=True))


def test_a_rollout_keeps_what_was_asked_of_each_state(model, tmp_path):
    sampler = Sampler(EOS_ID, 8, 4, score=top_tokens_and_entropies)
    drawn = sampler.answer(alone(model), [own.prompt_ids for own in PROMPTS], range(6))
    pairs = [(own.prompt_ids, own.response_ids) for own in drawn]
    batch = pack_sequences(pairs, "cpu", with_final_state=False)
    with torch.no_grad():
        expected = top_tokens_and_entropies(model.eval(), batch, ())
    for name, values in expected.items():
        torch.testing.assert_close(join_scores(drawn, name, "cpu"), values)
    save_rollouts(tmp_path / "kept.safetensors", drawn)
    for one, same in zip(drawn, load_rollouts(tmp_path / "kept.safetensors"), strict=True):
        assert (one.prompt_ids, one.response_ids) == (same.prompt_ids, same.response_ids)
        assert one.scores.keys() == same.scores.keys()
        assert all(torch.equal(values, same.scores[name]) for name, values in one.scores.items())
        assert {values.dtype for values in same.scores.values()} == {torch.int64, torch.float32}


def test_tokens_alone_are_saved_too(tmp_path):
    rollouts = [Rollout([1, 2], [3], {}), Rollout([4], [5, 6], {})]
    save_rollouts(tmp_path / "kept.safetensors", rollouts)
    assert load_rollouts(tmp_path / "kept.safetensors") == rollouts


def test_each_rank_answers_its_share_and_all_get_all(model):
    sampler, prompts = Sampler(EOS_ID, 8, 2), [own.prompt_ids for own in PROMPTS[:5]]
    whole = sampler.answer(alone(model), prompts, range(5))
    shares = [sampler.answer(alone(model, rank, 2), prompts, range(5)) for rank in range(2)]
    assert [len(own) for own in shares] == [2, 3]
    assert [own.response_ids for own in whole] == [own.response_ids for share in shares for own in share]


def test_a_cold_sampler_takes_the_likeliest_tokens(model):
    """At temperature 1e-4 nothing else has a share; at 1 the answers differ."""
    prompts = [own.prompt_ids for own in PROMPTS]
    cold, usual = (
        Sampler(EOS_ID, 6, 6, temperature=value).answer(alone(model), prompts, range(6)) for value in (1e-4, 1)
    )
    batch = pack_sequences([(own.prompt_ids, own.response_ids) for own in cold], "cpu", with_final_state=False)
    with torch.no_grad():
        assert torch.equal(model.states(batch).logits().argmax(-1), batch.actions)
    assert [own.response_ids for own in usual] != [own.response_ids for own in cold]
