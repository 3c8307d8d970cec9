"""Every preset loads, plans its whole study offline with the jobs that its README tells, and keeps to the paper."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from distill.config.base import expand_path
from distill.config.given_models import FolderModel
from distill.config.preferences import FilePairs
from distill.config.sources import FileSource
from distill.study.load import load_study
from distill.study.parts import sources_of
from distill.study.study import Study
from warm import ENVIRONMENT, warm_python
from workplace import ROOT

PRESETS = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))
JOBS = re.compile(r"^\| `([\w.]+?)` \| (\d+) \|", re.MULTILINE)


def load(preset: str) -> Study:
    return load_study(yaml.safe_load((ROOT / "presets" / f"{preset}.yaml").read_text()))


def make_placeholders(study: Study) -> None:
    """Writes an empty object wherever the study names a local file or the folder of a model."""
    models = [study.models.teacher, study.models.student, *(one.model for one in study.further_students.values())]
    folders = [model for model in models if isinstance(model, FolderModel)]
    paths = [f"{model.path}/{model.gguf_file or 'config.json'}" for model in folders]
    paths += [f"{path}/config.json" for path in (study.external.teacher, study.external.phase1) if path]
    paths += [source.path for source in sources_of(study).values() if isinstance(source, FileSource)]
    pairs = study.preferences and study.preferences.pairs
    paths += [pairs.train, pairs.test] if isinstance(pairs, FilePairs) else []
    paths += [study.external.samples] if study.external.samples else []
    for path in paths:
        place = expand_path(path, "presets")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("{}\n")


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_plans_its_study_offline(preset, tmp_path, monkeypatch):
    folders = {f"DISTILL_{name}": str(tmp_path / name) for name in ("DATA", "MODELS")}
    for name, folder in folders.items():
        monkeypatch.setenv(name, folder)
    make_placeholders(load(preset))
    command = ["snakemake", "--dry-run", "--cores", "8", "--directory", str(tmp_path)]
    result = subprocess.run(
        [warm_python("snakemake"), "-m", *command, "--configfile", f"presets/{preset}.yaml"],
        cwd=ROOT,
        env=ENVIRONMENT
        | folders
        | {"HF_HUB_OFFLINE": "1", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    planned = int(re.search(r"^total +(\d+)$", result.stdout + result.stderr, re.MULTILINE)[1])
    told = dict(JOBS.findall((ROOT / "presets" / "README.md").read_text().split("\n## ")[0]))
    assert told.get(preset) == str(planned), f"presets/README.md: expected a row | `{preset}` | {planned} |"


# Learning rate and epochs of SFT, KD and SeqKD, from MiniLLM's scripts or by analogy with them; student by student.
BASELINES = {
    "qwen2.5": {"teacher": (1e-5, 10), "student": (1e-5, 10)},
    "gpt2": {"teacher": (5e-5, 10), "student": (5e-4, 20), "gpt2_medium": (1e-4, 20), "gpt2_large": (1e-4, 10)},
    "opt": {"teacher": (1e-5, 10), "student": (5e-4, 20), "opt_350m": (1e-4, 20), "opt_1_3b": (5e-5, 10)},
}


@pytest.mark.parametrize("preset", BASELINES)
def test_recipes_are_the_papers(preset):
    study = load(preset)
    students = {"student": study, **study.further_students}
    recipes = {"teacher": (study.teacher.training.learning_rate, study.teacher.training.epochs)}
    for name, student in students.items():
        baselines = [student.runs[method].training for method in ("sft", "kd", "seqkd")]
        assert len(set(baselines)) == 1
        assert (baselines[0].batch, baselines[0].weight_decay, baselines[0].beta2) == (32, 1e-2, 0.999)
        recipes[name] = baselines[0].learning_rate, baselines[0].epochs
        first = student.phase1.training
        assert (first.learning_rate, first.epochs, first.batch) == (baselines[0].learning_rate, 3, 32)
        for run in student.runs.values():
            if run.method in ("bd", "minillm"):
                training = run.training
                assert (training.learning_rate, training.batch, training.warmup_steps) == (5e-6, 64, 100)
                assert (training.weight_decay, training.beta2, training.evaluate_every) == (1e-6, 0.95, 100)
    assert recipes == BASELINES[preset]


def test_ablations_stand_with_the_students_of_the_papers_tables():
    """Table 2 varies p for Qwen-2.5 0.5B, GPT-2 340M and OPT-125M, Table 4 leaves chi-square out for two students."""
    found = {"p": [], "chi2": []}
    for preset in BASELINES:
        study = load(preset)
        for name, student in {"student": study, **study.further_students}.items():
            bellman = [run.bellman for run in student.runs.values() if run.method == "bd"]
            for objective in ("sampled", "released"):
                own = [options for options in bellman if options.objective == objective]
                if {options.p for options in own if options.chi2 == "printed"} == {0.5, 0.8, 1.0}:
                    found["p"].append((preset, name))
                if {options.chi2 for options in own} == {"printed", "none"}:
                    found["chi2"].append((preset, name))
    twice = {"p": [("qwen2.5", "student"), ("gpt2", "gpt2_medium"), ("opt", "student")]}
    twice["chi2"] = [("qwen2.5", "student"), ("gpt2", "gpt2_large")]
    assert found == {key: [place for place in places for _ in range(2)] for key, places in twice.items()}
