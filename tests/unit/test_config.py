"""The config file follows its models, and each mistake in a config is one line that names the key and the fix."""

import json
from pathlib import Path

import pytest
import yaml

from distill.audit.plan import plan_study
from distill.config.base import expand_path
from distill.errors import ConfigError
from distill.methods.registry import builtin_methods
from distill.methods.sft import SftRun
from distill.report.recipes import comparison_families
from distill.study.costs import Estimates
from distill.study.document import CONFIG, SCHEMA, render_config, render_schema
from distill.study.load import load_study
from distill.study.parts import judged_pairs, run_of, start_of
from distill.study.stages import STAGES, slice_of
from workplace import CONFIG as MICRO
from workplace import SMOKE

ROOT = Path(__file__).parents[2]
RECIPE = {"steps": 2, "learning_rate": 1e-3}
EPOCHS = {"epochs": 1, "learning_rate": 1e-3}
PRICES = {"price_per_million_input_tokens": 2.0, "price_per_million_output_tokens": 3.0}
API = {"kind": "api", "model": "m"} | PRICES
SFT, BD = {"method": "sft", "training": RECIPE}, {"method": "bd", "training": RECIPE}
SCRATCH = {"kind": "scratch", "pretraining": RECIPE}


def test_the_tests_study_is_that_of_make_smoke_with_more_runs():
    micro, smoke = (load_study(yaml.safe_load((ROOT / path).read_text())) for path in (MICRO, SMOKE))
    seeds = micro.generation.model_copy(update={"seeds": smoke.generation.seeds})
    fewer = {"runs": {name: micro.runs[name] for name in smoke.runs}, "generation": seeds}
    assert micro.model_copy(update=fewer | {"title": smoke.title, "results": smoke.results}) == smoke


@pytest.mark.parametrize(("path", "render"), [(CONFIG, render_config), (SCHEMA, render_schema)])
def test_the_file_is_what_the_models_say(path, render):
    assert (ROOT / path).read_text() == render(), f"{path} does not follow workflow/distill/config: run `make config`"


def test_config_yaml_is_the_study_that_an_empty_config_gives():
    assert load_study(yaml.safe_load((ROOT / CONFIG).read_text())) == load_study({})


def test_each_key_of_config_yaml_stands_under_a_comment():
    lines = (ROOT / CONFIG).read_text().splitlines()
    names = set(json.loads((ROOT / SCHEMA).read_text())["properties"])
    bare = [
        line for above, line in zip(lines, lines[1:], strict=False) if line.split(":")[0] in names and above[:1] != "#"
    ]
    assert bare == []


@pytest.mark.parametrize("path", sorted([*ROOT.glob("presets/*.yaml"), *ROOT.glob("tests/fixtures/*.yaml")]), ids=str)
def test_each_shipped_config_is_a_study(path):
    load_study(yaml.safe_load(path.read_text()))


UNKNOWN = "unknown key; delete it or see config.yaml for the keys that exist"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"titel": "x"}, f"config: titel: {UNKNOWN} (did you mean title?)"),
        (
            {"data": {"dev": {"kind": "split", "rows": 3, "row": 3}}},
            f"config: data.dev.row: {UNKNOWN} (did you mean rows?)",
        ),
        # A misspelt required key is both unknown and missing: the misspelling is what helps.
        ({"data": {"dev": {"kind": "split", "rowz": 3}}}, f"config: data.dev.rowz: {UNKNOWN} (did you mean rows?)"),
        ({"runs": {"sft": SFT | {"bellman": {}}}}, f"config: runs.sft.bellman: {UNKNOWN}"),
        (
            {"report": {"labels": {"bd": "BD"}}},
            "config: report.labels: expected systems of the study, found bd; correct it or take it out",
        ),
        (
            {"report": {"labels": {"sft": "SFT", "seqkd": "SFT"}}},
            "config: report.labels: expected a label of its own for each system, found 'SFT' twice; change one",
        ),
        ({"runs": {"bd": BD | {"bellman": {"P": 1}}}}, f"config: runs.bd.bellman.P: {UNKNOWN}"),
    ],
)
def test_unknown_key(config, message):
    with pytest.raises(ConfigError) as error:
        load_study(config)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("config", "key", "found"),
    [
        ({"seed": "ten"}, "seed", "'ten' (str)"),
        ({"seed": -1}, "seed", "-1 (int)"),
        ({"seed": None}, "seed", "None (NoneType)"),
        ({"data": []}, "data", "[] (list)"),
        ({"data": {"dev": {"kind": "split", "rows": 0.5}}}, "data.dev.rows", "0.5 (float)"),
        ({"data": {"evaluation": {"dolly": {"kind": "split", "rows": []}}}}, "data.evaluation.dolly.rows", "[] (list)"),
        ({"data": {"instructions": {"kind": "web", "rows": 3}}}, "data.instructions.kind", "'web'"),
        (
            {"models": {"teacher": {"kind": "hub", "repository": "a/b", "revision": "main"}}},
            "models.teacher.revision",
            "'main' (str)",
        ),
        ({"runs": {}}, "runs", "{} (dict)"),
        ({"runs": {"a": {"training": RECIPE}}}, "runs.a.method", "None"),
        ({"runs": {"a": SFT | {"method": "ppo"}}}, "runs.a.method", "'ppo'"),
        ({"runs": {"sft": {"method": "sft"}}}, "runs.sft.training", "none"),
        ({"runs": {"sft": SFT | {"training": {"steps": 2}}}}, "runs.sft.training.learning_rate", "none"),
        ({"runs": {"bd": BD | {"bellman": {"gamma": 1.01}}}}, "runs.bd.bellman.gamma", "1.01 (float)"),
        ({"runs": {"bd": BD | {"bellman": {"chi2": False}}}}, "runs.bd.bellman.chi2", "False (bool)"),  # YAML: `off`
        ({"generation": {"seeds": [10, "a"]}}, "generation.seeds.1", "'a' (str)"),
        ({"generation": {"seeds": []}}, "generation.seeds", "[] (list)"),
        ({"judge": {"kind": "gpt"}}, "judge.kind", "'gpt' (str)"),
        ({"external": {"teacher": 3}}, "external.teacher", "3 (int)"),
    ],
)
def test_wrong_value(config, key, found):
    with pytest.raises(ConfigError) as error:
        load_study(config)
    message = str(error.value)
    assert message.startswith(f"config: {key}: ") and "\n" not in message
    assert message.split(", found ")[1].split(";")[0] == found


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"runs": {"a": SFT | {"training": RECIPE | {"epochs": 1}}}},
            "runs.a.training: give exactly one of epochs and steps",
        ),
        (
            {"runs": {"a": SFT | {"training": RECIPE | {"batch": 10, "micro_batch": 4}}}},
            "runs.a.training: batch 10 must be",
        ),
        (
            {"deepspeed": {"processes": 3}},
            "teacher.training.batch: expected a multiple of micro_batch x deepspeed.processes = 48, found 16",
        ),
        (
            {"runs": {"bd": BD | {"bellman": {"p": 0.99}}}},
            "runs.bd.bellman.p: expected at most candidates.p_max = 0.95 (or 1), found 0.99; lower p or raise",
        ),
        *(
            ({"runs": {"bd": BD | {"bellman": bellman}}}, f"runs.bd.bellman: {message}")
            for bellman, message in (
                ({"chi2": "centred", "p": 1}, "p: expected a number below 1 with chi2 centred, found 1"),
                ({"objective": "expected", "p": 1}, "p: expected a number below 1 with objective expected, found 1"),
                ({"objective": "released", "remainder": True}, "remainder: expected false with objective released"),
                ({"objective": "released", "chi2": "centred"}, "chi2: expected printed or none with objective"),
                ({"remainder": True, "oos_action": "floor"}, "oos_action: expected drop with remainder, found floor"),
                ({"chi2": "centred", "oos_action": "include"}, "oos_action: expected drop or floor with chi2 centred"),
            )
        ),
        (
            {"runs": {"bd": BD}, "candidates": {"p_max": 0.5}},
            "runs.bd.bellman.p: expected at most candidates.p_max = 0.5",
        ),
        (
            {"runs": {"bd": BD}, "data": {"plain_text": None}},
            "runs.bd.plain_text_weight: expected 0 since data.plain_text is null",
        ),
        (
            {"runs": {"sft": SFT}, "data": {"plain_text": None}},
            "models: scratch models pretrain on data.plain_text, found null",
        ),
        (
            {"runs": {"My run": SFT}},
            "runs.My run: expected a new name of a-z, 0-9 and _, 40 of them at most, and not teacher, ",
        ),
        ({"runs": {"teacher": SFT}}, "runs.teacher: expected a new name"),
        (
            {"runs": {"tie": SFT}},
            "runs.tie: expected a new name of a-z, 0-9 and _, 40 of them at most, and not teacher, teacher_dpo, "
            "phase1, base, student, tie; rename the run",
        ),
        ({"runs": {"a": SFT | {"updates_of": "b"}}}, "runs.a.updates_of: expected the name of a run of another"),
        ({"runs": {"a": SFT | {"updates_of": "a"}}}, "runs.a.updates_of: expected the name of a run of another"),
        (
            {"runs": {"a": SFT | {"updates_of": "b"}, "b": SFT | {"method": "seqkd", "training": EPOCHS}}},
            "runs.a.updates_of: expected a run whose training.steps is given, found 'b'",
        ),
        (
            {"runs": {"a": SFT | {"start": "b"}}},
            "runs.a.start: expected base or another run of the student among ['phase1', 'a'], found 'b'; name one",
        ),
        ({"runs": {"a": SFT | {"start": "teacher"}}}, "runs.a.start: expected base or another run of the student"),
        (
            {"runs": {"a": SFT | {"start": "a"}}},
            "runs.a.start: expected a way back to base, found a after a;",
        ),
        (
            {"runs": {"a": SFT | {"start": "b"}, "b": BD | {"start": "c"}, "c": BD | {"start": "a"}}},
            "runs.a.start: expected a way back to base, found a after b after c after a; start one at base",
        ),
        (
            {
                "runs": {"a": SFT, "b": SFT | {"start": "a"}},
                "further_students": {"big": {"model": SCRATCH, "runs": {"a": None}}},
            },
            "further_students.big.runs.b.start: expected base or another run of the student among ['phase1', 'b'], ",
        ),
        ({"further_seeds": [10]}, "further_seeds: expected seeds from 0, other than 10, each once, found [10]"),
        ({"further_students": {"Big": {"model": SCRATCH}}}, "further_students.Big: expected a new name of a-z, 0-9"),
        (
            {"further_students": {"big": {"model": {"kind": "folder", "path": "/x"}}}},
            "further_students.big.model: expected teacher and student to share one vocabulary",
        ),
        (
            {"runs": {"a": BD}, "further_students": {"b": {"model": SCRATCH, "runs": {"a": {"bellman": {"p": 0.99}}}}}},
            "further_students.b.runs.a.bellman.p: expected at most candidates.p_max",
        ),
        (
            {"runs": {"a": BD}, "further_students": {"b": {"model": SCRATCH, "runs": {"a": {"bellman": {"x": 0}}}}}},
            "further_students.b.runs.a.bellman.x: unknown key",
        ),
        (
            {"data": {"instructions": {"kind": "world", "rows": 500}}},
            "data.instructions.rows: expected at least 1000 rows, 500 of them for train, found 500; raise it",
        ),
        (
            {"data": {"evaluation": {name: {"kind": "split", "rows": 3} for name in "ab"}}},
            "data.evaluation: expected at most one set of kind split",
        ),
        ({"data": {"evaluation": {"train": {"kind": "world", "rows": 3}}}}, "data.evaluation.train: expected a name"),
        (
            {"data": {"dev": {"kind": "split", "rows": 3, "leave_out": ["dolly", "mine"]}}},
            "data.dev.leave_out: expected sets among ['dolly', 'self_inst', 'vicuna'], found 'mine'; correct it",
        ),
        ({"generation": {"decodings": {"a b": {}}}}, "generation.decodings.a b: expected a name"),
        ({"judge": {"dataset": "x"}}, "judge.dataset: expected one of ['dolly', 'self_inst', 'vicuna'], found 'x'"),
        (
            {"judge": {"decoding": "beam"}},
            "judge.decoding: expected one of ['greedy', 'top_p_0.8', 'top_p_1.0'], found 'beam'",
        ),
        ({"judge": {"seed": 99}}, "judge.seed: expected one of generation.seeds [10, 20, 30, 40, 50], found 99"),
        ({"judge": {"pairs": [["sft", "nobody"]]}}, "judge.pairs: expected systems among ['teacher', 'phase1', 'sft',"),
        (
            {"judge": {"kind": "none", "pairs": [["sft", "seqkd"]]}},
            "judge.pairs: expected none since judge.kind is none, found 1; leave them out",
        ),
        *(
            ({"teacher": {"kind": "texts"}, "external": {"samples": "x"}} | config, message)
            for config, message in (
                (
                    {"runs": {"sft": SFT, "bd": BD}},
                    "runs.bd: expected a method that learns from the teacher's texts alone, such as sft or seqkd, "
                    "since teacher.kind is texts, found bd, which needs candidate_sets; leave the run out",
                ),
                (
                    {"runs": {"kd": SFT | {"method": "kd"}}},
                    "runs.kd: expected a method that learns from the teacher's texts alone",
                ),
                (
                    {"runs": {"a": SFT | {"method": "seqkd"}}, "external": {}},
                    "external.samples: expected a file of texts since teacher.kind is texts, found null; name one",
                ),
                (
                    {"runs": {"a": SFT}, "external": {"teacher": "x"}},
                    "external.teacher: expected null since teacher.kind is texts, found a folder; leave one out",
                ),
                (
                    {"teacher": {"kind": "mute"}},
                    "teacher: expected a section of kind trained, texts or api, found",
                ),
                ({"teacher": {"kind": "texts", "select": "last"}}, "teacher.select: unknown key"),
                ({"teacher": {"kind": "api"}}, "teacher.model: expected a value, found none; add the key"),
                (
                    {"teacher": API, "runs": {"kd": SFT | {"method": "kd"}}},
                    "runs.kd: expected a method that learns from the teacher's texts alone, such as sft or seqkd, "
                    "since teacher.kind is api, found kd, which needs teacher_logits; leave the run out",
                ),
                (
                    {"teacher": API, "external": {"samples": "x"}, "runs": {"seqkd": SFT | {"method": "seqkd"}}},
                    "external.samples: expected null since teacher.kind is api, found a file; leave one out",
                ),
            )
        ),
        (
            {"phase1": None, "runs": {"a": SFT, "b": BD}},
            "runs.b.start: expected base or another run of the student among ['a', 'b'], found 'phase1'; name one",
        ),
        (
            {"phase1": None, "external": {"phase1": "x"}, "runs": {"a": SFT}},
            "external.phase1: expected null since phase1 is null, found a folder; leave one of them out",
        ),
        (
            {"data": {"evaluation": {"sums": {"kind": "sums", "rows": 9, "worked_share": 0.5}}}},
            "data.evaluation.sums.worked_share: unknown key",
        ),
        ({"judge": {"pairs": [["sft", "sft"]]}}, "judge.pairs.0: a pair needs two different systems"),
        (
            {"models": {"student": {"kind": "folder", "path": "/x"}}},
            "models.student: expected teacher and student to share one vocabulary",
        ),
        (
            {"models": {"student": SCRATCH | {"hidden_size": 64, "heads": 4}}},
            "models.student.heads: expected hidden_size / heads among (32, 64,",
        ),
        (
            {"models": {"student": SCRATCH | {"hidden_size": 64, "heads": 3}}},
            "models.student: hidden_size 64 must be a multiple of 2 x heads (6)",
        ),
    ],
)
def test_combination_that_makes_no_study(config, message):
    with pytest.raises(ConfigError) as error:
        load_study(config)
    assert str(error.value).startswith(f"config: {message}") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "config",
    [
        {"judge": {"seed": 99, "decoding": "greedy"}},  # greedy answers have no seed
        {"runs": {"bd": BD | {"bellman": {"p": 1}}}},  # p = 1 needs no candidate set
        {"runs": {"sft": SFT | {"training": {"steps": 2, "learning_rate": "1e-3"}}}},  # YAML 1.1 reads 1e-3 as a string
        {"models": {"student": SCRATCH | {"hidden_size": 64, "heads": 4}}, "sampling": {"engine": "transformers"}},
    ],
)
def test_unusual_study(config):
    load_study(config)


def test_a_need_that_does_not_exist_is_refused(monkeypatch):
    monkeypatch.setattr(SftRun, "needs", frozenset({"verdicts", "plain_text"}))
    with pytest.raises(ConfigError, match="^config: runs.sft: expected needs .*, found 'verdicts'; .*$"):
        load_study({})


def test_a_run_starts_from_the_run_of_its_own_student_and_seed():
    config = {
        "external": {"phase1": "given"},
        "further_seeds": [11],
        "further_students": {"big": {"model": SCRATCH | {"hidden_size": 64, "heads": 2}}},
        "runs": {"a": SFT, "b": BD | {"start": "a"}, "c": BD},
    }
    study = load_study(config)
    starts = {name: start_of(study, name) for name in study.systems}
    assert {name for name, start in starts.items() if start is None} == {
        *("teacher", "phase1", "a", "a.seed11", "big.phase1", "big.a", "big.phase1.seed11", "big.a.seed11")
    }
    assert {name: start for name, start in starts.items() if start} == {
        **{"b": "a", "c": "phase1", "b.seed11": "a.seed11", "c.seed11": "phase1"},
        **{"big.b": "big.a", "big.c": "big.phase1"},
        **{"big.b.seed11": "big.a.seed11", "big.c.seed11": "big.phase1.seed11"},
    }


def test_chi_square_is_off_by_default_with_a_remainder():
    """In whatever place the remainder is asked for; a value of one's own stays."""
    runs = {
        "a": BD,
        "b": BD | {"bellman": {"remainder": True}},
        "c": BD | {"bellman": {"remainder": True, "chi2": "centred"}},
        "d": BD | {"bellman": {"objective": "released", "chi2": None}},
    }
    other = {"model": SCRATCH | {"hidden_size": 64, "heads": 2}, "runs": {"a": {"bellman": {"remainder": True}}}}
    study = load_study({"runs": runs, "further_students": {"other": other}})
    found = {name: run.bellman.chi2 for name, run in study.runs.items()}
    assert found == {"a": "printed", "b": "none", "c": "centred", "d": "printed"}
    assert study.further_students["other"].runs["a"].bellman.chi2 == "none"


@pytest.mark.parametrize("config", [[], None, "runs"])
def test_config_that_is_no_mapping(config):
    with pytest.raises(ConfigError, match=r"^config: input should be a valid dictionary"):
        load_study(config)


def test_paths_take_the_environment_and_name_what_is_unset(monkeypatch):
    monkeypatch.setenv("MODELS", "/models")
    assert expand_path("${MODELS}/teacher", "external.teacher") == Path("/models/teacher")
    monkeypatch.delenv("MODELS")
    with pytest.raises(
        ConfigError, match=r"^external.teacher: expected the environment variable MODELS .* run with MODELS="
    ):
        expand_path("${MODELS}/teacher", "external.teacher")


def test_each_rule_has_a_slice_and_each_slice_a_rule():
    rules = {path.stem for path in ROOT.glob("workflow/scripts/*.py")}
    assert set(STAGES) == rules


def test_without_phase_1_the_base_stands_in_its_place_for_all_seeds():
    config = {
        "phase1": None,
        "further_seeds": [11],
        "further_students": {
            "big": {"model": SCRATCH | {"hidden_size": 64, "heads": 2}, "phase1": {"training": RECIPE}}
        },
        "runs": {"a": SFT, "b": SFT | {"start": "a"}},
    }
    study = load_study(config)
    own = ["teacher", "base", "a", "b", "a.seed11", "b.seed11"]
    assert [name for name in study.systems if not name.startswith("big")] == own
    assert [job["system"] for job in STAGES["adopt_model"].each(study)] == ["base"]
    assert {job["system"] for job in STAGES["train_run"].each(study)} == {*study.systems} - {"base"}
    systems = slice_of(study, "make_tables").systems
    assert systems["base"].is_control and systems["base"].training is None
    assert ("a", "base") in comparison_families(systems)["student", study.seed]
    assert study.systems["big.phase1"].is_trained and start_of(study, "b.seed11") == "a.seed11"


def test_nothing_is_judged_where_the_judge_is_none():
    config = {"judge": {"kind": "none"}, "data": {"evaluation": {"own": {"kind": "split", "rows": 3}}}}
    assert judged_pairs(load_study(config)) == []


def test_students_get_no_more_labels_than_the_teacher_by_default():
    assert load_study({"data": {"train_rows": 300}}).data.labelled_rows == 300
    assert load_study({"data": {"train_rows": 3000}}).data.labelled_rows == 500


def test_the_judges_key_reaches_no_slice(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    study = load_study({})
    pair = judged_pairs(study)[0]
    text = slice_of(study, "judge_pair", first=pair[0], second=pair[1]).model_dump_json()
    assert '"kind":"openai"' in text and "sk-secret" not in text


def test_default_pairs_are_each_bd_run_against_each_control():
    study = load_study({"runs": {"a": SFT, "x": BD, "b": SFT, "y": BD}, "further_seeds": [20]})
    assert judged_pairs(study) == [(bd, other) for bd in "xy" for other in ("phase1", "a", "b")]


def test_judging_and_comparing_know_one_list_of_controls():
    study = load_study({})
    systems = slice_of(study, "make_tables").systems
    controls = [name for name, system in systems.items() if system.is_control]
    assert controls == ["phase1", "sft", "sft_continued", "kd_sets", "seqkd", "minillm"]
    own = {pair for pair in comparison_families(systems)["student", study.seed] if pair[0].startswith("bd")}
    assert own == set(judged_pairs(study))


def test_a_further_student_takes_the_studys_sections_with_its_own_changes():
    study = load_study(
        {
            "runs": {"a": SFT, "x": BD},
            "further_students": {
                "big": {
                    "model": SCRATCH | {"hidden_size": 160, "heads": 5},
                    "phase1": {"training": {"steps": 7}},
                    "runs": {"x": None, "a": {"training": {"learning_rate": 0.5}}, "b": SFT},
                }
            },
            "further_seeds": [20],
        }
    )
    assert list(study.systems) == [
        *("teacher", "phase1", "a", "x", "phase1.seed20", "a.seed20", "x.seed20"),
        *("big.phase1", "big.a", "big.b", "big.phase1.seed20", "big.a.seed20", "big.b.seed20"),
    ]
    own, changed = (slice_of(study, "train_run", system=name) for name in ("a.seed20", "big.a.seed20"))
    assert (own.name, changed.name, own.seed, changed.seed) == ("a", "big.a", 20, 20)
    assert own.run["training"] | {"learning_rate": 0.5} == changed.run["training"]
    assert slice_of(study, "make_base", role="big").model.hidden_size == 160
    assert slice_of(study, "train_run", system="big.phase1").run["training"]["steps"] == 7


def test_one_switch_gives_students_of_all_architectures():
    study = load_study({"runs": {"a": SFT}, "models": {"further_architectures": ["gpt2", "opt"]}})
    assert list(study.systems) == ["teacher", "phase1", "a", "gpt2.phase1", "gpt2.a", "opt.phase1", "opt.a"]
    own, *others = (slice_of(study, "make_base", role=role).model for role in ("student", "gpt2", "opt"))
    assert [other.architecture for other in others] == ["gpt2", "opt"]
    assert all(other.model_copy(update={"architecture": "qwen2"}) == own for other in others)


def test_phase_2_trains_without_dropout_and_the_key_changes_its_own_run_alone():
    runs = {method: {"method": method, "training": RECIPE} for method in builtin_methods()}
    config = {"runs": runs, "preferences": {"pairs": {"kind": "world"}, "teacher": {"training": RECIPE}}}
    study = load_study(config)
    trained = ("teacher", "phase1", *runs)
    assert [name for name in trained if not run_of(study, name).dropout] == [
        "adpa",
        "bd",
        "dckd",
        "dpo",
        "grpo",
        "kdrl",
        "minillm",
        "rkl",
        "tgpo",
        "tvkd",
    ]
    for name in trained:
        key = {"dropout": not run_of(study, name).dropout}
        changed = load_study(config | ({"runs": runs | {name: runs[name] | key}} if name in runs else {name: key}))
        slices = {run: [slice_of(one, "train_run", system=run) for one in (study, changed)] for run in trained}
        assert [run for run, (before, after) in slices.items() if before != after] == [name]


@pytest.mark.parametrize(
    ("bellman", "reduction"),
    [
        ({}, "token"),
        ({"objective": "expected"}, "token"),
        ({"objective": "released"}, "sequence"),
        ({"objective": "released", "reduction": None}, "sequence"),
        ({"objective": "released", "reduction": "token"}, "token"),
        ({"reduction": "sequence"}, "sequence"),
    ],
)
def test_the_released_objective_averages_over_sequences_as_its_code_unless_told_otherwise(bellman, reduction):
    study = load_study({"runs": {"bd": BD | {"bellman": bellman}}})
    assert slice_of(study, "train_run", system="bd").run["bellman"]["reduction"] == reduction


@pytest.mark.parametrize("teacher", [{"teacher": {"kind": "texts"}, "external": {"samples": "x"}}, {"teacher": API}])
def test_a_teacher_that_only_speaks_is_no_system_and_no_model(teacher):
    study = load_study(teacher | {"runs": {"seqkd": SFT | {"method": "seqkd"}}})
    assert [*study.systems] == ["phase1", "seqkd"]
    assert STAGES["check_models"].each(study) == [{"role": "student"}]
    plans = {plan.rule: plan for plan in plan_study(Estimates(study))}
    assert "adopt_samples" in plans and not plans.keys() & {"sample_teacher", "gather_samples", "build_candidates"}
    assert ("ask_teacher" in plans) == (study.teacher.kind == "api")
    made = slice_of(study, "select_checkpoint", system="seqkd").made
    assert {*made.bases} == {"student"} and made.sources["teacher's samples"]["kind"] in ("api", "outside")
    if "ask_teacher" in plans:
        prompts, samples = sum(Estimates(study).sampled_prompts), study.teacher_samples
        most = prompts * (64 * 2.0 + samples.per_prompt * samples.max_new_tokens * 3.0) / 1e6
        assert most / 20 < plans["ask_teacher"].cost.usd < 2 * most
