"""What is made already costs nothing in a plan: by its record, not because a file is there."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from distill.__main__ import main
from distill.audit import staleness
from distill.audit.archive import Archive
from distill.audit.keys import made_jobs
from distill.audit.plan import plan_study
from distill.files import MANIFEST
from distill.study.costs import Estimates
from distill.study.load import load_study
from small_archive import make_small_archive, small_config
from workplace import ROOT

CONFIG = small_config()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The results of a small study, none of which is changed for good."""
    results = tmp_path_factory.mktemp("made") / "results"
    make_small_archive(results, CONFIG)
    return results


def left(results, config, root=ROOT):
    """Returns the jobs that a plan has, by rule."""
    study = load_study(config)
    return {plan.rule: plan.jobs for plan in plan_study(Estimates(study), made_jobs(Archive(results, root), study))}


def test_of_a_finished_study_nothing_is_left(made):
    assert left(made, CONFIG) == {}


def test_another_rate_leaves_that_run_and_what_follows(made):
    training = CONFIG["runs"]["sft"].get("training", {}) | {"learning_rate": 1e-5}
    runs = CONFIG["runs"] | {"sft": CONFIG["runs"]["sft"] | {"training": training}}
    found = left(made, CONFIG | {"runs": runs})
    one = ("train_run", "validate_run", "select_checkpoint", "generate_responses", "score_responses")
    last = ("measure_efficiency", "make_tables", "render_tables", "draw_figures", "render_report")
    assert {rule: jobs for rule, jobs in found.items() if rule != "judge_pair"} == dict.fromkeys((*one, *last), 1)


def test_what_has_no_seal_is_made_again_with_what_follows(made):
    seal = made / "generations/sft" / MANIFEST
    text = seal.read_bytes()
    seal.unlink()
    try:
        found = left(made, CONFIG)
    finally:
        seal.write_bytes(text)
    assert (found["generate_responses"], found["score_responses"], found["make_tables"]) == (1, 1, 1)
    assert "train_run" not in found


def test_what_another_run_takes_away_while_it_is_compared_is_stale(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = Path("results")
    shutil.copytree(made / "tokenizer", results / "tokenizer")
    shutil.copy(made / "tokenizer.prov.json", results)

    def take_away(study, artifact, _):
        (results / artifact.record).unlink()
        return {part: getattr(artifact, part) for part in ("rule", "code", "lock", "settings")}

    monkeypatch.setattr(staleness, "present_key", take_away)
    assert staleness.note_stale(load_study(CONFIG), results) == ["tokenizer"]


def test_the_command_line_says_what_it_leaves_out(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG | {"results": str(made)}))
    assert main(["plan", "--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^all +0 ", said, re.MULTILINE) and f"left out, since {made} has it: " in said
    assert main(["plan", "--config", str(config), "--all"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^train_run +4 ", said, re.MULTILINE) and "left out" not in said
