"""Phase 2 trains without the model's dropout, scores and evaluations never have it, and checkpoints keep its rates."""

import pytest

from distill.checkpoints import read_checkpoints
from distill.files import read_json
from stage_process import make_inputs, rows_of, succeed

FAMILIES = ("qwen2", "llama", "gpt2", "opt")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What training runs read, by family; every kind of dropout has rate 0.1."""
    roots = {family: tmp_path_factory.mktemp(family) for family in FAMILIES}
    return {family: make_inputs(root, family, dev=20, layers=2, dropout=0.1) for family, root in roots.items()}


def first_update(inputs, output, **keys):
    """Makes one update of MiniLLM by a student that is its own teacher and samples alone; returns its log row."""
    training = {"steps": 1, "batch": 32, "micro_batch": 16, "learning_rate": 1e-3}
    run = {"method": "minillm", "teacher_mix": 0, "prompts_per_round": 32, "max_new_tokens": 8, **keys}
    settings = {"name": "tried", "run": run | {"training": training}, "updates_of": None, "wrapper": "short"}
    settings |= {"plain_text_tokens": 16, "deepspeed": {"gradient_checkpointing": True}, "seed": 10}
    succeed("train_run", output, settings, teacher=inputs["start"], **inputs)
    return rows_of(output / "metrics.jsonl")[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_that_is_its_teacher_starts_minillm_at_ratio_1_and_without_divergence(folders, family, tmp_path):
    inputs = folders[family]
    row = first_update(inputs, tmp_path / "run")
    assert row["policy/ratio"] == pytest.approx(1, abs=1e-5)
    assert row["policy/reverse_kl"] == pytest.approx(0, abs=1e-5)
    (checkpoint,) = read_checkpoints(tmp_path / "run").values()
    start, saved = ({k: v for k, v in read_json(folder / "config.json").items() if "drop" in k}
                    for folder in (inputs["start"], checkpoint))  # fmt: skip
    assert start == saved and set(start.values()) == {0.1}


@pytest.mark.parametrize("family", ["gpt2", "opt"])  # those whose published models have rates
def test_dropout_acts_on_trained_passes_alone(folders, family, tmp_path):
    row = first_update(folders[family], tmp_path / "run", dropout=True)
    assert abs(row["policy/ratio"] - 1) > 1e-3 and row["policy/reverse_kl"] > 1e-2
    # The teacher's and the student's scores of what was sampled, and of the dev set before training.
    assert row["policy/reward"] == pytest.approx(0, abs=1e-6)
    assert rows_of(tmp_path / "run" / "dev.jsonl")[0]["loss"] == pytest.approx(0, abs=1e-6)
