"""What several processes make together of a stage's pieces is what one makes, whoever made which piece."""

import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

from distill.study.load import load_study
from distill.study.stages import STAGES
from stage_process import WORKFLOW, make_inputs, sample_settings, stage_arguments
from state_kinds import kinds_in_pieces, left_in, make_all_inputs
from warm import ENVIRONMENT

PIECES = {"values": 2, "candidate sets": 2, "teacher samples": 2, "answers": 2, "dev answers": 2}
"""The kinds, each with the call of a process, as `Kind.kill` counts them, that kills it behind its first piece."""


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    return {kind.name: kind for kind in kinds_in_pieces(root, make_all_inputs(root))}


@pytest.fixture(scope="module")
def left(kinds, tmp_path_factory):
    """Returns a function that tells what a kind leaves that was made by so many processes."""

    def of(kind, processes):
        place = tmp_path_factory.mktemp("made")
        done = replace(kinds[kind], processes=processes).start(place)
        assert done.code == 0, done.text
        return left_in(place)

    return of


@pytest.mark.parametrize("name", PIECES)
def test_two_and_three_processes_leave_the_bytes_of_one(left, name):
    assert left(name, 2) == left(name, 3) == left(name, 1)


@pytest.mark.parametrize("name", PIECES)
def test_one_process_goes_on_from_what_two_have_made(kinds, left, tmp_path, name):
    module, function, _ = kinds[name].kill
    replace(kinds[name], processes=2, kill=(module, function, PIECES[name])).kill_in(tmp_path)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob(".state/*/**/*.sha256")}
    one = kinds[name].start(tmp_path)
    assert one.code == 0, one.text
    assert made and left_in(tmp_path) == left(name, 1)
    if name in ("answers", "teacher samples", "dev answers"):  # whose state stays for later runs
        assert made == {path: path.stat().st_mtime_ns for path in made}, "none was made again"


@pytest.mark.slow
def test_two_engines_of_vllm_sample_what_one_samples(tmp_path):
    inputs = make_inputs(tmp_path, width=64)
    folders = {name: inputs[name] for name in ("split", "dev", "tokenizer")} | {"teacher": inputs["start"]}
    sampling = {"engine": "vllm", "kv_cache_gib": 0.1, "max_sequences": 64}
    settings = sample_settings(sampling=sampling, per_prompt=2, prompts=400, held_out_prompts=80)
    for processes in (1, 2):
        output = tmp_path / str(processes) / "samples"
        command = [
            sys.executable,
            WORKFLOW / "scripts/sample_teacher.py",
            *stage_arguments(output, settings, **folders),
        ]
        launcher = [sys.executable, "-m", "distill.launch", str(processes)]
        environment = ENVIRONMENT | {"PYTHONPATH": str(WORKFLOW), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*launcher, *command], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    one, two = (tmp_path / str(processes) / "samples" / "samples.jsonl" for processes in (1, 2))
    assert one.read_bytes() == two.read_bytes()


def test_each_engine_has_devices_of_its_own_and_the_teacher_scores_on_those_of_one_node():
    config = yaml.safe_load((WORKFLOW.parent / "presets" / "qwen2.5.yaml").read_text())
    config["sampling"] |= {"tensor_parallel": 2, "processes": 3}
    config["deepspeed"] |= {"processes": 4, "nodes": 2}
    study = load_study(config)
    generating = [STAGES[name] for name in ("sample_teacher", "validate_run", "generate_responses")]
    assert {(stage.processes(study), stage.gpus(study), stage.own_gpus(study)) for stage in generating} == {(3, 6, 2)}
    others = {"build_candidates": (2, 1), "build_values": (2, 1), "rank_pairs": (1, 0), "train_run": (4, 0)}
    assert {name: (STAGES[name].gpus(study), STAGES[name].own_gpus(study)) for name in others} == others
