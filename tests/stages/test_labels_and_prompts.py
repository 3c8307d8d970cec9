"""Which rows of train a student's runs may take responses from, and which of them prompts."""

import pytest

from distill.errors import DataError
from distill.methods import kd, minillm, sft
from distill.models.load import load_model
from distill.models.packed import PackedModel
from distill.study.load import load_study
from distill.study.stages import slice_of
from plain_trainer import make_context
from stage_process import make_inputs, rows_of

TRAINING = {"steps": 1, "batch": 4, "micro_batch": 4, "learning_rate": 1e-3}
RUNS = {
    "sft": (sft, sft.SftRun(training=TRAINING)),
    "kd": (kd, kd.KdRun(training=TRAINING, kd_ratio=0.0)),
    "minillm": (minillm, minillm.MiniLlmRun(training=TRAINING, prompts_per_round=4, plain_text_weight=0.0)),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"), dev=20)


def build(inputs, name, labelled_rows=None, prompts=None):
    method, run = RUNS[name]
    context = make_context(
        inputs,
        run,
        name=name,
        labelled_rows=labelled_rows,
        prompts=prompts,
        load_teacher=lambda: PackedModel(load_model(inputs["start"]), 400),
    )
    return method.build_task(context)


@pytest.mark.parametrize("name", ["sft", "kd"])
def test_supervised_runs_learn_from_the_first_labelled_rows_alone(inputs, name):
    everything = build(inputs, name, prompts=3).train
    assert len(everything) == len(rows_of(inputs["split"] / "train.jsonl"))
    assert build(inputs, name, labelled_rows=5, prompts=3).train == everything[:5]


def test_more_labelled_rows_than_train_has_is_an_error(inputs):
    rows = len(rows_of(inputs["split"] / "train.jsonl"))
    with pytest.raises(DataError, match=rf"data.labelled_rows: expected at most the {rows} rows .*, found {rows + 1}"):
        build(inputs, "sft", labelled_rows=rows + 1)


def test_rollouts_answer_the_prompts_that_the_teacher_is_sampled_on(inputs):
    rows = rows_of(inputs["split"] / "train.jsonl")
    task = build(inputs, "minillm", labelled_rows=5, prompts=8)
    assert {example.id for example in task.rounds.prompts} == {row["id"] for row in rows[:8]}


def test_the_teacher_learns_from_every_row_and_its_students_from_the_labelled_ones():
    study = load_study({"data": {"labelled_rows": 40}, "teacher_samples": {"prompts": 90}})
    counts = {name: slice_of(study, "train_run", system=name) for name in ("teacher", "phase1", "sft", "minillm")}
    assert {name: own.labelled_rows for name, own in counts.items()} == {
        "teacher": None,
        "phase1": 40,
        "sft": 40,
        "minillm": 40,
    }
    assert [name for name, own in counts.items() if own.prompts == 90] == ["minillm"]


def test_students_have_few_labels_in_the_embedded_world_and_all_of_a_user_s_own_rows():
    assert load_study({}).data.labelled_rows == 500
    own = {"data": {"instructions": {"kind": "file", "path": "mine.jsonl"}}}
    assert load_study(own).data.labelled_rows is None
