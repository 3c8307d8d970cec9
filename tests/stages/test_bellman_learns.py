"""Phase 2 learns its objective from the teacher's samples, and nothing about a prompt from other prompts' answers."""

from collections import defaultdict
from statistics import fmean

import pytest

from distill.checkpoints import read_checkpoints
from distill.evaluation.statistics import Interval, paired_bootstrap
from stage_process import make_inputs, make_samples, rows_of, succeed


def train(output, name, run, steps, learning_rate, **inputs):
    training = {"steps": steps, "batch": 32, "learning_rate": learning_rate, "evaluate_every": steps}
    settings = {"name": name, "run": run | {"training": training}, "updates_of": None, "wrapper": "short"}
    settings |= {"plain_text_tokens": 16, "deepspeed": {}, "seed": 10}
    return succeed("train_run", output / name, settings, **inputs)


def last_checkpoint(output):
    return list(read_checkpoints(output).values())[-1]


@pytest.fixture(scope="module")
def changes(tmp_path_factory):
    """The change of a held-out quantity, with its interval over prompts, by run and quantity."""
    root = tmp_path_factory.mktemp("learning")
    small, large = make_inputs(root / "small"), make_inputs(root / "large", width=64)
    data = {name: small[name] for name in ("vocabulary", "split", "dev", "tokenizer")}
    teacher = train(root, "teacher", {"method": "sft"}, 60, 4e-3, start=large["start"], **data)
    phase1 = train(root, "phase1", {"method": "sft"}, 80, 4e-3, start=small["start"], **data)
    inputs = data | make_samples(root, small, last_checkpoint(teacher)) | {"start": last_checkpoint(phase1)}
    runs = {
        "sampled": {"bellman": {"p": 0.9}},
        "linear": {"bellman": {"p": 0.9, "chi2": "none"}},
        "permuted": {"bellman": {"p": 0.9, "chi2": "none"}, "permute_responses": True},
        "remainder": {"bellman": {"p": 0.9, "objective": "expected", "remainder": True}},
        "released": {"bellman": {"p": 0.9, "objective": "released", "reduction": "sequence"}},
    }
    found = {}
    for name, run in runs.items():
        output = train(root, name, {"method": "bd", "plain_text_weight": 0} | run, 80, 1.5e-3, **inputs)
        rows = rows_of(output / "dev_items.jsonl")
        rows = [row | {"gap": abs(row["student_outside"] - row["teacher_outside"])} for row in rows]
        found |= {(name, quantity): change(rows, quantity) for quantity in ("loss", "linear", "gap")}
    return found


def change(rows: list[dict], quantity: str) -> Interval:
    """Returns last minus first, prompt by prompt, a prompt's samples averaged."""
    samples = defaultdict(lambda: defaultdict(list))
    for row in rows:
        samples[row["step"]][row["id"]].append(row[quantity])
    means = {step: {id_: fmean(values) for id_, values in group.items()} for step, group in samples.items()}
    return paired_bootstrap(means[max(means)], means[0])


@pytest.mark.parametrize("run", ["sampled", "linear", "remainder", "released"])
def test_a_run_lowers_its_own_held_out_objective(changes, run):
    assert changes[run, "loss"].n == 80
    assert changes[run, "loss"].hi < 0, changes


def test_without_chi_square_the_projected_student_comes_closer_to_the_teachers_samples(changes):
    assert changes["linear", "linear"].hi < 0
    assert changes["linear", "linear"] == changes["linear", "loss"]


def test_other_prompts_answers_teach_nothing(changes):
    assert changes["permuted", "linear"].hi > 0
    assert changes["permuted", "linear"].lo > changes["linear", "linear"].hi


def test_a_remainder_brings_the_mass_outside_the_sets_to_the_teachers(changes):
    """Without one nothing holds it there: it moves away, if the sets are learnt as well as here."""
    assert changes["remainder", "gap"].hi < 0 < changes["linear", "gap"].lo
