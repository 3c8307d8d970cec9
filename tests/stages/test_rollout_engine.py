"""Answers of a model in training by an engine in a process of its own: the weights of now, and the same run again."""

import sys
from dataclasses import asdict
from functools import partial

import pytest
import torch

from distill.config.slices.train_run import RolloutEngine
from distill.errors import ConfigError, DataError
from distill.files import seal_folder
from distill.models.load import load_model
from distill.models.packed import PackedModel
from distill.rollouts.engine_process import EngineProcess
from distill.rollouts.mixed_sampling import sample_mixture
from distill.sampling.protocol import EngineSettings
from distill.sampling.settings import engine_settings
from distill.stopping import SIGNALS
from distill.study.load import load_study
from distill.study.stages import slice_of
from stage_process import die_at, make_inputs, make_samples, run_stage_process, succeed
from tiny_models import EOS_ID, make_model

SHAPE = {"vocabulary": 400, "layers": 1, "positions": 64}
PROMPTS, SEEDS = [[5, 6, 7], [8, 9], [10, 11, 12, 13]], [1, 2, 3]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    return make_inputs(root, dev=20, initializer_range=0.3, **SHAPE)


def test_each_answer_is_of_the_weights_of_now(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    settings = EngineSettings("vllm", max_model_len=32, max_num_seqs=8, kv_cache_gib=0.1)
    process = EngineProcess(sys.executable, settings, 400, folders["tokenizer"])
    student = PackedModel(load_model(folders["start"]), 400).eval()
    found = []
    for _ in range(2):
        found.append(process.answer(student, PROMPTS, SEEDS, 8, temperature=0.0))
        assert found[-1] == sample_mixture(student, None, 0.0, PROMPTS, SEEDS, EOS_ID, 8, temperature=1e-6)
        with torch.no_grad():
            for own in student.parameters():
                own.add_(torch.randn(own.shape, generator=torch.Generator().manual_seed(7)), alpha=0.3)
        for (
            number
        ) in SIGNALS:  # as of Ctrl-C, which reaches it too; the training must get its answers until it has saved
            process._process.send_signal(number)
    assert found[0] != found[1]
    with pytest.raises(DataError, match=r"^rollout_engine: request 0: expected a prompt of 1 to 24 tokens"):
        process.answer(student, [list(range(5, 30))], [1], 8, 1.0)


def test_a_killed_run_with_an_engine_gives_the_same_weights(folders, tmp_path):
    teacher = make_model(tmp_path / "teacher", width=64, initializer_range=0.3, seed=5, **SHAPE)
    seal_folder(teacher)
    inputs = folders | {"teacher": teacher}
    inputs |= make_samples(tmp_path, folders, teacher, prompts=40, held_out_prompts=6, per_prompt=2)
    training = {"steps": 4, "batch": 4, "micro_batch": 4, "learning_rate": 1e-2, "evaluate_every": 2}
    run = {"method": "gkd", "student_share": 1.0, "responses": "teacher", "max_new_tokens": 8, "training": training}
    opened = EngineSettings("transformers", max_model_len=40, max_num_seqs=8)
    engine = RolloutEngine(python=sys.executable, lock="", settings=asdict(opened))
    settings = {"name": "gkd", "run": run | {"rollout_engine": "sampling"}, "updates_of": None, "wrapper": "short"}
    settings |= {"plain_text_tokens": 16, "deepspeed": {}, "seed": 10, "rollouts": engine.model_dump()}
    whole = succeed("train_run", tmp_path / "whole", settings, **inputs)
    kill = partial(die_at, "distill.training.loop", "_update", 4)
    assert run_stage_process("train_run", tmp_path / "killed", settings, kill, **inputs).code == -9
    again = succeed("train_run", tmp_path / "killed", settings, **inputs)
    settings["rollouts"]["python"] = "no-such-python"
    refused = run_stage_process("train_run", tmp_path / "refused", settings, **inputs)
    assert refused.code == 2 and "error: train_run: environments.vllm.python: expected an interpreter" in refused.text
    for folder in sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors")):
        assert (whole / folder).read_bytes() == (again / folder).read_bytes()


def test_an_engine_is_part_of_the_key_of_runs_that_use_it():
    training = {"steps": 4, "batch": 4, "micro_batch": 4, "learning_rate": 1e-2, "evaluate_every": 2}
    gkd = {"method": "gkd", "training": training}
    study = load_study({"runs": {"inside": gkd, "outside": gkd | {"rollout_engine": "sampling"}}})
    inside, outside = (slice_of(study, "train_run", system=name) for name in ("inside", "outside"))
    assert inside.rollouts is None
    assert outside.rollouts.settings == asdict(engine_settings(study.sampling, max_model_len=64 + 40))
    mixed = {"method": "minillm", "training": training, "rollout_engine": "sampling"}
    with pytest.raises(ConfigError, match=r"runs\.mixed\.rollout_engine: expected training, since"):
        load_study({"runs": {"mixed": mixed}})
