"""Configs that would write elsewhere, fail at the end of a study or change numbers in silence: refused by key."""

import math
from pathlib import Path

import pytest

from distill.config.base import expand_path
from distill.errors import LONGEST, ConfigError
from distill.study.load import check_config_files, load_study
from distill.study.places import check_locks

TRAINING = {"steps": 2, "learning_rate": 1e-3}
SFT = {"method": "sft", "training": TRAINING}


def refused(config):
    with pytest.raises(ConfigError) as error:
        load_study(config)
    assert "\n" not in str(error.value) and len(str(error.value)) <= LONGEST
    return str(error.value)


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"judge": {"spend_cap_usd": math.inf}}, "judge.spend_cap_usd"),
        ({"judge": {"timeout_s": math.nan}}, "judge.timeout_s"),
        ({"runs": {"sft": SFT | {"training": TRAINING | {"gradient_clip": math.inf}}}}, "runs.sft.training.gradient"),
        ({"generation": {"max_new_tokens": 10**400}}, "generation.max_new_tokens"),
        ({"seed": 2**53 + 1}, "seed"),
        ({"generation": {"seeds": [10, 10]}}, "generation.seeds"),
        ({"generation": {"seeds": [-1]}}, "generation.seeds"),
        ({"further_seeds": [-3]}, "further_seeds"),
        ({"external": {"teacher": ""}}, "external.teacher"),
        ({"title": " "}, "title"),
        ({"title": "a\x1b[2J"}, "title"),
        ({"title": "a\ud800"}, "title"),
        ({"plugins": [5]}, "plugins.0"),
        ({"runs": {"sft": SFT, "tie": SFT}}, "runs.tie"),
        ({"runs": {"x" * 41: SFT}}, "runs.xxx"),
        ({"runs": {"": SFT}}, "runs."),
        (
            {"further_students": {"phase1": {"model": {"kind": "pruned", "drop_layers": [0]}}}},
            "further_students.phase1",
        ),
        ({"data": {"evaluation": {"x" * 41: {"kind": "world", "rows": 1}}}}, "data.evaluation.xxx"),
        *(
            ({"judge": {"base_url": url}}, "judge.base_url")
            for url in (
                "https://u:secret@x.org/v1",
                "https://x.org/v1?key=secret",
                "http://",
                "http://[::1",
                "ftp://a@b",
            )
        ),
    ],
)
def test_refused_by_key(config, key):
    message = refused(config)
    assert message.startswith(f"config: {key}") and "secret@" not in message and "key=secret" not in message


def test_a_value_within_itself_ends():
    value: list = []
    value.append(value)
    assert refused({"title": value}).startswith("config: title")


@pytest.mark.parametrize(
    "text",
    ["import sys\n\nsys.exit(0)\n", "raise RuntimeError('no')\n", "1 / 0\n", "def f(:\n"],
)
def test_a_plugin_that_raises_or_exits_is_one_line(tmp_path, text):
    path = tmp_path / "quits.py"
    path.write_text(text)
    assert str(path) in refused({"plugins": [str(path)]})


def test_a_plugin_whose_section_raises_is_one_line(tmp_path):
    path = tmp_path / "odd_section.py"
    path.write_text(
        "from typing import Literal\nfrom distill.config.runs import Run\n\n\n"
        "class Odd(Run):\n    method: Literal['odd_section']\n\n    def problems(self, study):\n"
        "        raise RuntimeError('no such luck')\n\n\ndef build_task(context):\n    pass\n"
    )
    run = {"method": "odd_section", "training": TRAINING}
    assert "no such luck" in refused({"plugins": [str(path)], "runs": {"odd": run}})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("title: a\nruns:\n  sft: 1\n  sft: 2\n", ":4: expected YAML with each key once, found the key 'sft' twice"),
        ("title: [a\n", ":2: expected YAML with each key once, found "),
        ('{"title": "a", "title": "b"}', ":1: expected YAML with each key once, found the key 'title' twice"),
    ],
)
def test_a_config_file_is_named_by_line(tmp_path, text, found):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        check_config_files([path])
    assert str(error.value).startswith(f"{path}{found}")


def test_shipped_configs_have_each_key_once():
    check_config_files(Path(__file__).parents[2].glob("presets/*.yaml"))


def test_a_home_of_nobody_is_one_line():
    with pytest.raises(ConfigError, match="data.x: expected a path, found nobody's home"):
        expand_path("~no_such_user/x", "data.x")


def test_a_lock_that_is_not_there_is_named_by_its_key(tmp_path):
    study = load_study({"environments": {"light": {"lock": "nowhere.lock"}}})
    with pytest.raises(ConfigError, match=r"^environments\.light\.lock: expected a lock"):
        check_locks(study, tmp_path)
