"""Methods on preference pairs at work: what they learn from, what their options do, what they watch, and the values."""

import math
from functools import partial

import pytest
import torch

from distill.candidates.values import load_values
from distill.config.runs import Run
from distill.data.pairs import encode_pairs
from distill.data.tokens import load_tokenizer
from distill.errors import ConfigError, DataError
from distill.files import MANIFEST, digest_file, seal_folder
from distill.methods import adpa, dckd, dpo, tvkd
from distill.methods.tvkd.task import shaping_offsets
from distill.models.load import load_model
from distill.models.packed import PackedModel
from distill.study.load import load_study
from distill.study.parts import judged_pairs, run_of, start_of
from distill.study.stages import slice_of
from plain_trainer import Trainer, make_context
from stage_process import die_at, make_inputs, make_pairs_folder, rows_of, run_stage_process, succeed
from tiny_models import make_model

METHODS = {name: module for name, module in (("dpo", dpo), ("tvkd", tvkd), ("dckd", dckd), ("adpa", adpa))}
SECTIONS = {"dpo": dpo.DpoRun, "tvkd": tvkd.TvkdRun, "dckd": dckd.DckdRun, "adpa": adpa.AdpaRun}
SHAPE = {"vocabulary": 400, "layers": 1, "positions": 64, "initializer_range": 0.3}


def value_settings(**changes):
    return {"exponent": 0.7, "scale": 1.0, "batch": 8, "wrapper": "short", "deepspeed": {}} | changes


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    inputs = make_inputs(root, dev=20, **SHAPE) | {"pairs": make_pairs_folder(root)}
    for seed, name in ((5, "teacher"), (6, "preference_teacher")):
        inputs[name] = make_model(root / name, width=64, seed=seed, **SHAPE)
        seal_folder(inputs[name])
    own = {name: inputs[name] for name in ("pairs", "vocabulary", "tokenizer")}
    teacher = inputs["preference_teacher"]
    return inputs | {"values": succeed("build_values", root / "values", value_settings(), teacher=teacher, **own)}


@pytest.fixture
def trainer(folders):
    def build(method="dpo", learning_rate=1e-3, micro_batch=4, seed=10, **keys):
        training = {"steps": 12, "batch": 8, "micro_batch": micro_batch, "learning_rate": learning_rate}

        def load(name):
            return PackedModel(load_model(folders[name]), 400).eval()

        context = make_context(
            folders,
            SECTIONS[method](training=training, **keys),
            seed=seed,
            inputs={name: [folders[name]] for name in ("pairs", "values", "preference_teacher", "teacher")},
            load_teacher=partial(load, "teacher"),
            load_frozen=load,
        )
        return Trainer(METHODS[method].build_task(context), load("start"), 8, micro_batch, learning_rate)

    return build


CHANGES = {
    "dpo": {"beta": (0.5, {})},
    "tvkd": {
        "beta": (0.5, {}),
        "variant": ("repo_sum", {}),
        "shaping_weight": (0.3, {}),
        "discount": (0.5, {}),
        "terminal": ("model", {}),
        "control": ("shuffled", {}),
        "exponent": (0.5, {"variant": "repo_sum"}),
        "student_exponent": (0.5, {"variant": "repo_joint"}),
        "top_k": (3, {"variant": "repo_recipe"}),
    },
    "dckd": {"chosen_weight": (0.5, {}), "rejected_weight": (0.0, {})},
    "adpa": {"clamp_advantage": (True, {})},
}


@pytest.mark.parametrize("method", CHANGES)
def test_every_option_changes_the_losses(trainer, method):
    own = {*SECTIONS[method].model_fields} - {*Run.model_fields} - ({"beta"} if method in ("dckd", "adpa") else set())
    assert own == {*CHANGES[method]}
    for key, (value, beside) in CHANGES[method].items():
        first, second = (trainer(method, **keys).run(range(2)) for keys in (beside, beside | {key: value}))
        assert first != second, key
    # Micro-batches of one update are one mean.
    assert trainer(method).run(range(2)) == pytest.approx(trainer(method, micro_batch=2).run(range(2)), abs=1e-5)


def test_each_variant_terminal_and_control_is_another_loss(trainer):
    variants = tvkd.Variant.__args__
    found = [trainer("tvkd", variant=variant).gradients(0) for variant in variants]
    found += [trainer("tvkd", **{key: value}).gradients(0) for key, value in SHAPINGS]
    assert len({round(loss, 6) for loss in found}) == len(found) == 9


SHAPINGS = (("terminal", "model"), ("terminal", "last"), ("control", "shuffled"), ("control", "constant"))


@pytest.mark.parametrize("keys", [{"shaping_weight": 0.0}, {"discount": 1.0}], ids=str)
def test_without_weight_or_discount_tvkd_is_dpo(trainer, keys):
    """Potential-based shaping as an episodic task demands it (gamma 1, nothing at the end) changes no margin."""
    plain, shaped = (trainer(*own).run(range(3)) for own in (("dpo",), ("tvkd",)))
    assert trainer("tvkd", **keys).run(range(3)) == pytest.approx(plain, abs=1e-6)
    assert shaped != pytest.approx(plain, abs=1e-3)


def test_shuffled_offsets_are_the_same_ones_at_other_pairs(trainer):
    own, shuffled, constant = (
        trainer("tvkd", **keys).task.offsets.view(-1, 2)
        for keys in ({}, {"control": "shuffled"}, {"control": "constant"})
    )
    assert not torch.equal(own, shuffled)
    assert sorted(map(tuple, own.tolist())) == sorted(map(tuple, shuffled.tolist()))
    assert torch.equal(constant, constant[:1].expand_as(constant))
    assert constant[0].tolist() == pytest.approx(own.mean(0).tolist(), abs=1e-6)
    assert torch.equal(trainer("tvkd", control="shuffled").task.offsets.view(-1, 2), shuffled)
    assert not torch.equal(trainer("tvkd", control="shuffled", seed=11).task.offsets.view(-1, 2), shuffled)


def test_shaping_offsets_by_hand():
    """n = 2, V = (V0, V1, V2), gamma 0.7: -V0 + (0.7 - 1) V1, and 0.7 of what stands at the end."""
    values = [torch.tensor([2.0, 5.0, 11.0]), torch.tensor([1.0, 3.0])]
    assert shaping_offsets(values, 0.7, "zero").tolist() == pytest.approx([-2 - 0.3 * 5, -1])
    assert shaping_offsets(values, 0.7, "model").tolist() == pytest.approx([-3.5 + 0.7 * 11, -1 + 0.7 * 3])
    assert shaping_offsets(values, 0.7, "last").tolist() == pytest.approx([-3.5 + 0.7 * 5, -1 + 0.7])


def test_values_are_the_teachers_at_each_state(folders):
    tokenizer, eos_id = load_tokenizer(folders["tokenizer"])
    pairs = encode_pairs(folders["pairs"] / "train.jsonl", tokenizer, "short", eos_id)
    digest = digest_file(folders["pairs"] / MANIFEST)
    values = load_values(folders["values"], digest, pairs)
    model = load_model(folders["preference_teacher"])
    for place, (prompt, response) in enumerate(side for pair in pairs[:3] for side in pair.sides):
        assert response[-1] == eos_id
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 :]
        expected = (logits.double().softmax(-1) ** 0.7).sum(-1).log()
        assert torch.allclose(values[place].double(), expected, atol=1e-5)
    assert len(values) == 2 * len(pairs)
    for wrong in ((f"{digest[:-1]}x", pairs), (digest, pairs[1:])):
        with pytest.raises(DataError, match="rerun build_values"):
            load_values(folders["values"], *wrong)


def test_values_that_are_there_outlive_a_kill(folders, tmp_path):
    inputs = {name: folders[name] for name in ("pairs", "vocabulary", "tokenizer")}
    inputs["teacher"] = folders["preference_teacher"]
    output, settings = tmp_path / "values", value_settings()

    def small_parts(prepare=None):
        return run_stage_process("build_values", output, settings, partial(parts_of_16, prepare), **inputs)

    assert small_parts(("distill.candidates.values", "soft_values", 5)).code == -9
    first = {path.name: path.stat().st_mtime_ns for path in (tmp_path / ".state").rglob("*.safetensors")}
    assert len(first) == 2
    done = small_parts()
    assert done.code == 0, done.text
    again = sorted(output.glob("*.safetensors"))
    assert len(again) == 4 and {path.name: path.stat().st_mtime_ns for path in again[:2]} == first
    tokenizer, eos_id = load_tokenizer(folders["tokenizer"])
    pairs = encode_pairs(folders["pairs"] / "train.jsonl", tokenizer, "short", eos_id)
    digest = digest_file(folders["pairs"] / MANIFEST)
    one, many = (torch.cat(load_values(folder, digest, pairs)) for folder in (folders["values"], output))
    assert torch.equal(one, many)


def parts_of_16(kill):
    from distill.candidates import values

    values.PART_PAIRS = 16
    if kill:
        die_at(*kill)


@pytest.mark.parametrize("method", METHODS)
def test_a_start_is_its_own_reference(trainer, method):
    """At update 0 the margin of every dev pair is 0 and DPO's loss is log 2; afterwards it is not."""
    runner = trainer(method)
    start, rows = runner.task.evaluate(runner.model.eval())
    assert start == pytest.approx(math.log(2), abs=1e-6)
    assert [(row["margin"], row["implicit_accuracy"]) for row in rows] == [(0.0, 0.5)] * 12
    runner.model.train()
    runner.run(range(4))
    loss, rows = runner.task.evaluate(runner.model.eval())
    assert loss == pytest.approx(sum(row["loss"] for row in rows) / 12)
    for row in rows:
        assert row["loss"] == pytest.approx(math.log1p(math.exp(-0.1 * row["margin"])), rel=1e-4)
        assert row["implicit_accuracy"] == (row["margin"] > 0)
    assert any(abs(row["margin"]) > 1e-3 for row in rows)


def test_dpo_learns_what_pairs_that_it_has_not_seen_prefer(trainer):
    runner = trainer(learning_rate=3e-3)
    runner.run(range(60))
    loss, rows = runner.task.evaluate(runner.model.eval())
    assert loss < math.log(2) - 0.1
    assert sum(row["margin"] for row in rows) > 12


def test_an_item_is_a_pair_of_which_no_side_is_a_label(trainer):
    task = trainer().task
    assert task.items == 64
    assert task.drawn(3, 0).prompt == tuple(task.train.pairs[3].prompt_ids) and not task.drawn(3, 0).is_labelled


def test_every_system_scores_both_sides(folders, tmp_path):
    own = {name: folders[name] for name in ("pairs", "vocabulary", "tokenizer")}
    settings = {"batch": 5, "wrapper": "short", "deepspeed": {}}
    rows = rows_of(
        succeed("rank_pairs", tmp_path / "ranked", settings, model=folders["teacher"], **own) / "rankings.jsonl"
    )
    tokenizer, eos_id = load_tokenizer(folders["tokenizer"])
    pairs = encode_pairs(folders["pairs"] / "test.jsonl", tokenizer, "short", eos_id)
    assert [row["id"] for row in rows] == [pair.id for pair in pairs]
    model = load_model(folders["teacher"])
    for row, pair in zip(rows[:3], pairs, strict=False):
        for name, (prompt, response) in zip(("chosen", "rejected"), pair.sides, strict=True):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
            expected = logits.log_softmax(-1).gather(1, torch.tensor(response)[:, None]).sum().item()
            assert row[name] == pytest.approx(expected, abs=1e-3)


TRAINING = {"steps": 4, "batch": 8, "micro_batch": 8, "learning_rate": 1e-3}
PREFERENCES = {"pairs": {"kind": "world"}, "teacher": {"training": TRAINING}}


def study(run, preferences=PREFERENCES, **config):
    runs = {"sft": {"method": "sft", "training": TRAINING}, "tried": {"training": TRAINING} | run}
    return load_study({"runs": runs, "preferences": preferences, **config})


def test_the_teacher_is_a_chain_of_two_runs():
    tried = study({"method": "dpo", "start": "sft"})
    assert [*tried.systems][:3] == ["teacher", "teacher_dpo", "phase1"]
    own = run_of(tried, "teacher_dpo")
    assert (own.method, own.select, own.dropout) == ("dpo", "dev_loss", False)
    assert start_of(tried, "teacher_dpo") == "teacher" and start_of(tried, "tried") == "sft"
    assert all("teacher_dpo" not in pair for pair in judged_pairs(tried))
    assert "teacher_dpo" not in load_study({}).systems


SLICES = {
    "seed of the world": ({"data": {"world_seed": 1}}, {"make_pairs"}),
    "flipped labels": ({"pairs": {"flipped": 0.2}}, {"make_pairs"}),
    "longest prompt": ({"data": {"max_prompt_tokens": 50}}, {"make_pairs"}),
    "recipe of the teacher": ({"teacher": {"training": {"steps": 5}}}, {"train_run teacher_dpo"}),
    "beta of the teacher": ({"teacher": {"beta": 0.2}}, {"train_run teacher_dpo"}),
    "checkpoint rule of the teacher": ({"teacher": {"select": "last"}}, set()),
    "exponent of the values": ({"values": {"exponent": 0.5}}, {"build_values"}),
    "pairs a forward pass": ({"values": {"batch": 8}}, {"build_values", "rank_pairs"}),
    "seed of the study": ({"seed": 11}, {"train_run teacher_dpo", "train_run tried"}),
}


@pytest.mark.parametrize("case", SLICES)
def test_what_a_change_reaches(case):
    """Jobs depend on their slice, and on what they are made from."""
    changes, expected = SLICES[case]
    own = {key: changes[key] for key in PREFERENCES.keys() | {"values"} if key in changes}
    preferences = PREFERENCES | {key: PREFERENCES.get(key, {}) | value for key, value in own.items()}
    if "training" in own.get("teacher", {}):
        preferences["teacher"]["training"] = TRAINING | own["teacher"]["training"]
    config = {key: value for key, value in changes.items() if key not in own}
    run = {"method": "tvkd", "start": "sft"}
    jobs = [("make_pairs", {}), ("build_values", {}), ("rank_pairs", {"system": "tried"})]
    jobs += [("train_run", {"system": name}) for name in ("teacher_dpo", "tried")]
    found = set()
    for rule, wildcards in jobs:
        before, after = (
            slice_of(one, rule, **wildcards) for one in (study(run), study(run, preferences=preferences, **config))
        )
        if before != after:
            found.add(f"{rule} {wildcards['system']}" if rule == "train_run" else rule)
    assert found == expected


@pytest.mark.parametrize(
    ("run", "config", "message"),
    [
        (
            {"method": "dpo"},
            {"preferences": None},
            "runs.tried.method: expected preferences since dpo learns from pairs",
        ),
        ({"method": "tvkd", "top_k": 3}, {}, "runs.tried.top_k: expected 50 since variant shaping does not read it"),
        (
            {"method": "tvkd", "variant": "repo_sum", "control": "shuffled"},
            {},
            "runs.tried.control: expected None since variant repo_sum does not read it",
        ),
        ({"method": "dckd", "chosen_weight": 0, "rejected_weight": 0}, {}, "runs.tried.chosen_weight: expected it or"),
        (
            {"method": "sft"},
            {
                "preferences": None,
                "data": {"evaluation": {"talk": {"kind": "preferences"}}},
                "judge": {"dataset": "talk"},
            },
            "data.evaluation.talk.kind: expected preferences in the config, found null",
        ),
    ],
)
def test_studies_that_make_no_sense(run, config, message):
    with pytest.raises(ConfigError) as error:
        study(run, **config)
    assert message in str(error.value)
