"""What the updates of a run drew from the data, counted by each kind of task, and the runs that drew the same."""

import pytest
import torch

from distill.config.training import Training
from distill.data.tokens import Encoded
from distill.methods.bd.section import Bellman
from distill.methods.bd.task import BellmanDistill, Trajectory
from distill.methods.minillm import MiniLlmRun
from distill.methods.minillm.task import MiniLlm
from distill.records import Sample
from distill.report.tables.data_seen import shared_data
from distill.rollouts.rollout import Rollout
from distill.rollouts.rounds import Rounds
from distill.rollouts.sampler import Sampler
from distill.training.data_seen import data_seen
from distill.training.imitation import Imitation, Pair
from distill.training.loop import TrainingPlan
from distill.training.order import batch_indices
from distill.training.plain_text import Pretraining


def plan(steps, batch=4):
    return TrainingPlan(7, "mine", Training(steps=steps, batch=batch, micro_batch=batch, learning_rate=1e-3), steps)


def imitation(labelled, others=0):
    """Pairs of `labelled` prompts, each with a human and a teacher's response, and of `others` without a human one."""
    human = [Pair([i], [100 + i], is_labelled=True) for i in range(labelled)]
    return Imitation([*human, *(Pair([i], [200 + i]) for i in range(labelled + others))], [], "cpu")


def test_one_epoch_draws_every_row_once():
    seen = data_seen(imitation(8), plan(4))
    assert [seen[key] for key in ("updates", "sequences", "prompts", "labelled_rows")] == [4, 16, 8, 8]


def test_a_row_drawn_twice_counts_once_and_one_not_drawn_does_not():
    task, short, long = imitation(6, others=8), plan(2), plan(50)
    indices = {index for step in range(2) for index in batch_indices(step, 20, 4, 7, "mine", "order")}
    seen = data_seen(task, short)
    assert (seen["sequences"], seen["labelled_rows"]) == (8, len({index for index in indices if index < 6}))
    assert seen["prompts"] == len({task.train[index].prompt_ids[0] for index in indices})
    assert [data_seen(task, long)[key] for key in ("sequences", "prompts", "labelled_rows")] == [200, 14, 6]


def test_the_teachers_samples_are_prompts_without_labels():
    samples = [Sample(f"p{place % 5}", place // 5, [place % 5], [9], True) for place in range(20)]
    options = Bellman()
    trajectories = [Trajectory(sample, place) for place, sample in enumerate(samples)]
    seen = data_seen(BellmanDistill(trajectories, [], None, options, None, 0.0, (1,), "cpu"), plan(5))
    assert (seen["prompts"], seen["responses"], seen["labelled_rows"]) == (5, 20, 0)
    assert seen["prompts_sha256"] == data_seen(imitation(5), plan(2))["prompts_sha256"], "the same five prompts"
    assert seen["prompts_sha256"] != data_seen(imitation(6), plan(3))["prompts_sha256"]


class Answering(Sampler):
    """Answers every prompt with one token."""

    def answer(self, engine, prompts, seeds):
        return [Rollout(prompt, [1], {name: torch.zeros(1) for name in ("student", "teacher")}) for prompt in prompts]


def test_rollouts_are_told_without_sampling_them_again():
    prompts = [Encoded(f"p{i}", "", [i], [1]) for i in range(10)]
    training = {"steps": 1, "learning_rate": 1, "batch": 4, "micro_batch": 4}
    keys = {"prompts_per_round": 8, "inner_epochs": 2, "max_new_tokens": 4, "whitening": False, "reward_scaling": 1.0}
    run = MiniLlmRun(training=training, **keys).settled
    rounds = Rounds(prompts, Answering(0, 4, 4), 8, 4, (7, "mine"))
    task = MiniLlm(rounds, [], None, run, None, (7, "mine"), "cpu")
    steps = plan(9)
    for step in range(9):
        indices = steps.indices(step, task.items)
        task.prepare(None, step, indices)
        rolled = [tuple(rounds.rollouts[index].prompt_ids) for index in indices]
        assert rolled == [task.drawn(index, step).prompt for index in indices]
    seen = data_seen(task, plan(3))
    assert [seen[key] for key in ("sequences", "prompts", "responses", "labelled_rows")] == [12, 8, None, 0]
    assert data_seen(task, plan(8))["prompts"] == 10


def test_a_task_that_does_not_tell_has_its_length_alone():
    task = Pretraining(torch.ones(40, 4, dtype=torch.long).numpy(), "cpu")
    none = dict.fromkeys(("prompts", "prompts_sha256", "responses", "labelled_rows"))
    assert data_seen(task, plan(3)) == {"updates": 3, "sequences": 12} | none


def seen_row(run, start="phase1", prompt_set="set a", responses="40", updates="4", seed="10", student="student"):
    row = {"system": run if seed == "10" else f"{run}.seed{seed}", "run": run, "student": student, "start": start}
    row |= {"training_seed": seed, "prompt_set": prompt_set, "responses": responses}
    return row | {"sequences": "64", "updates": updates}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "All runs share"),
        ({"prompt_set": "set b"}, "Runs with the same start, prompts, responses, sequences and updates: `kd`, `bd`. "),
        ({"responses": "10"}, "sequences and updates: `kd`, `bd`. "),
        ({"start": "base"}, "sequences and updates: `kd`, `bd`. "),
        ({"updates": "5"}, "sequences and updates: `kd`, `bd`. "),
    ],
)
def test_runs_that_share_their_data_are_named(changes, said):
    rows = [seen_row("phase1", "base", "set c"), seen_row("kd"), seen_row("sft", **changes), seen_row("bd")]
    assert said in shared_data([*rows, seen_row("kd", prompt_set="set d", seed="20")])


def test_a_run_that_does_not_tell_is_like_no_other():
    rows = [seen_row("kd", prompt_set=""), seen_row("bd", prompt_set="")]
    assert shared_data(rows).startswith("No two runs share")
    assert shared_data(rows[:1]).startswith("All runs share")
