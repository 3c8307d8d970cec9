"""A teacher whose weights lie in two processes samples what one process samples, and nobody outside can listen."""

import subprocess
import sys

import psutil
import pytest

from distill.errors import ConfigError
from distill.study.load import load_study
from distill.study.stages import STAGES
from stage_process import WORKFLOW, make_inputs, rows_of, sample_settings, stage_arguments
from warm import ENVIRONMENT


def start(output, inputs, **changes):
    """Starts sample_teacher as its rule does, in an interpreter of its own."""
    output.parent.mkdir(parents=True, exist_ok=True)
    folders = {name: inputs[name] for name in ("split", "dev", "tokenizer")} | {"teacher": inputs["start"]}
    sampling = {"engine": "vllm", "kv_cache_gib": 0.1, "max_sequences": 64} | changes.pop("sampling", {})
    settings = sample_settings(sampling=sampling, per_prompt=2, prompts=40, held_out_prompts=8, **changes)
    command = [sys.executable, WORKFLOW / "scripts/sample_teacher.py", *stage_arguments(output, settings, **folders)]
    environment = ENVIRONMENT | {"PYTHONPATH": str(WORKFLOW), "OMP_NUM_THREADS": "1"}
    with open(output.with_name("log"), "w") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)


def listening(process):
    """Returns the addresses at which a process and its children have listened until its end, and those children."""
    addresses, children = set(), set()
    while process.poll() is None:
        try:
            own = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            children |= {child for child in own[1:] if "python" in child.name()}
            for one in own:
                addresses |= {place.laddr.ip for place in one.net_connections() if place.status == psutil.CONN_LISTEN}
        except psutil.Error:
            continue
    return addresses, children


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.001, 1.0])
def test_two_devices_sample_what_one_samples(tmp_path, temperature):
    inputs = make_inputs(tmp_path, width=64)
    one, two = (tmp_path / str(devices) / "samples" for devices in (1, 2))
    assert start(one, inputs, temperature=temperature).wait() == 0, one.with_name("log").read_text()
    process = start(two, inputs, temperature=temperature, sampling={"tensor_parallel": 2})
    addresses, children = listening(process)
    assert process.returncode == 0, two.with_name("log").read_text()
    rows = rows_of(one / "samples.jsonl")
    assert rows_of(two / "samples.jsonl") == rows and len(rows) == 96
    assert addresses == {"127.0.0.1"} and len(children) >= 2
    _, left = psutil.wait_procs(children, timeout=60)
    assert not left, "its processes end with it"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"engine": "transformers", "tensor_parallel": 2}, "expected 1 with engine transformers, found 2"),
        ({"tensor_parallel": 3}, "expected a divisor of models.teacher.heads = 5, found 3"),
    ],
)
def test_what_no_engine_can_share_is_refused_by_key(changes, expected):
    with pytest.raises(ConfigError, match=f"sampling.tensor_parallel: {expected}"):
        load_study({"sampling": changes})


def test_a_job_asks_for_all_devices_of_its_engine():
    given = {role: {"kind": "hub", "repository": f"me/{role}", "revision": "0" * 40} for role in ("teacher", "student")}
    stage, sampling = STAGES["sample_teacher"], {"tensor_parallel": 4, "threads": 2}
    study = load_study({"models": given, "sampling": sampling | {"device": "cuda"}})
    assert (stage.gpus(study), stage.threads(study), stage.processes(study)) == (4, 2, 1)
    study = load_study({"models": given, "sampling": sampling})
    assert (stage.gpus(study), stage.threads(study)) == (0, 8)
    assert STAGES["train_run"].threads(study) == 1
