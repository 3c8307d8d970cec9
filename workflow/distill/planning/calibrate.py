"""Measures a machine in a minute of one thread: matrix products, copies, decode steps, starts of processes."""

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from distill.planning.rates import Measures

_SECONDS, _ROUNDS = 2.0, 5
_STARTS, _STARTING = 3, 20.0
"""Starts of a process, and the seconds after which no further one is made."""
_IMPORTS = {
    "light": "import distill.provenance.stage",
    "train": "import torch, transformers, deepspeed",
    "vllm": "import vllm",
}


def rate(work: Callable[[], object], seconds: float = _SECONDS) -> float:
    """Returns calls a CPU second, the best of a few rounds, so that other work on the machine counts less."""
    work()
    best = 0.0
    for _ in range(_ROUNDS):
        calls, began = 0, time.process_time()
        while (spent := time.process_time() - began) < seconds / _ROUNDS:
            work()
            calls += 1
        best = max(best, calls / spent)
    return best


def start_seconds(python: str, statement: str) -> float | None:
    """Returns the CPU seconds of a process that runs a statement, the least of a few; None where it fails."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    # As Snakemake's jobs find `python`: that of the environment in which this one runs.
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PATH": search}
    command, began, found = (
        [shutil.which(python, path=search) or python, "-c", statement],
        time.monotonic(),
        list[float](),
    )
    while len(found) < _STARTS and time.monotonic() - began < _STARTING:
        before = used()
        try:
            subprocess.run(command, env=environment, capture_output=True, timeout=_STARTING, check=True)
        except (OSError, subprocess.SubprocessError):
            break
        found.append(used() - before)
    return min(found, default=None)


def measure(pythons: dict[str, str], seconds: float = _SECONDS) -> Measures:
    """Measures this machine with one thread.

    Args:
        pythons: the interpreter of each software family.
        seconds: CPU seconds of each rate.
    """
    found = {f"start_{name}": start_seconds(pythons.get(name, sys.executable), _IMPORTS[name]) for name in _IMPORTS}
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            for name, dtype in (("gemm_fp32", torch.float32), ("gemm_bf16", torch.bfloat16)):
                left, right = torch.randn(2, 1024, 1024).to(dtype)
                found[name] = 2 * 1024**3 * rate(partial(torch.matmul, left, right), seconds)
            block = torch.zeros(2**25)
            found["copied_bytes"] = 2 * block.nbytes * rate(block.clone, seconds)
            config = Qwen2Config(
                vocab_size=1024,
                hidden_size=64,
                intermediate_size=192,
                num_hidden_layers=4,
                num_attention_heads=2,
                num_key_value_heads=2,
            )
            model = AutoModelForCausalLM.from_config(config).eval()
            ids = torch.zeros(32, 16, dtype=torch.long)

            def decode() -> None:
                cache = model(ids, use_cache=True).past_key_values
                for _ in range(31):
                    model(ids[:, :1], past_key_values=cache, use_cache=True)

            found["decode_steps"] = 32 * rate(decode, seconds)
    finally:
        torch.set_num_threads(threads)
    return Measures(**{name: value for name, value in found.items() if value is not None})
