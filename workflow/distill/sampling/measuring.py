"""What one model costs to run, measured in a fresh process that holds no other: memory, latency and throughput."""

import math
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from distill.checkpoints import SELECTION
from distill.config.generation import Decoding
from distill.errors import DistillError, ModelError
from distill.files import digest_value, read_json, read_manifest, write_json
from distill.models.folders import read_tensor_shapes
from distill.progress import Progress
from distill.sampling.engines import load_engine, open_engine
from distill.sampling.protocol import EngineSettings, NoDistribution, Request
from distill.sealed_files import is_sealed, seal_file
from distill.stopping import SIGNALS, check, die_with

_BLOCK = 128
"""Tokens of the largest block in which vLLM keeps keys and values."""
_BATCHES = 5
"""How often all requests are answered at once: a tiny model does it in hundredths of a second."""


@dataclass(frozen=True)
class Load:
    """What is asked of each model: requests, and how they are decoded."""

    requests: Sequence[Request]
    decoding: Decoding
    max_new_tokens: int


def measure_models(
    folders: Sequence[Path], settings: EngineSettings, load: Load, state: Path, processor: str
) -> list[dict[str, Any]]:
    """Returns a row a system, as `evaluation.efficiency` reads it; systems with one model, as of a run that kept its
    start, share its figures.

    Args:
        folders: sealed models, of the systems by whose names they go.
        settings: of the engine.
        load: what each is asked.
        state: where figures outlive a kill.
        processor: of this machine, in words.

    Raises:
        ModelError: the engine refused a model, or its process ended.
    """
    files = {
        folder: {name: entry for name, entry in read_manifest(folder).items() if name != SELECTION}
        for folder in folders
    }
    models = {folder: digest_value(own)[:24] for folder, own in files.items()}
    first: dict[str, Path] = {}
    for folder, model in models.items():
        first.setdefault(model, folder)
    Progress.monitor_interval = 0  # no thread, since this process forks
    for model, folder in Progress(first.items(), unit="model"):
        path = state / f"{model}.json"
        if not is_sealed(path):
            write_json(path, measure_apart(folder, settings, load))
            seal_file(path)
        check()
    rows = []
    for folder, model in models.items():
        row = read_json(state / f"{model}.json")
        gpu = row.pop("gpu")
        devices = settings.tensor_parallel * (1 if gpu else settings.threads)
        rows.append(
            {
                "system": folder.name,
                "measured": first[model].name,
                "parameters": sum(prod(shape) for shape in read_tensor_shapes(folder).values()),
                "disk_bytes": sum(entry["size"] for entry in files[folder].values()),
                "engine": f"{settings.engine}, {settings.dtype}",
                "machine": f"{devices} x {gpu}" if gpu else f"{devices} thread{'s' * (devices > 1)} of {processor}",
                "prompts": len(load.requests),
                **row,
            }
        )
    return rows


def measure_apart(model: Path, settings: EngineSettings, load: Load) -> dict[str, Any]:
    """Returns the figures of a model (`_measure`), taken by a fork of this process that loads the model alone.

    The fork has the engine's libraries from here, so that they are loaded once for all models.

    Raises:
        ModelError: the engine refused the model, or its process ended.
    """
    load_engine(settings.engine)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, os.getpid(), model, settings, load))
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        process.join()
        raise ModelError(
            f"{model}: expected its figures, found the process that took them ended with code {process.exitcode}; its "
            "messages stand above, in this log"
        ) from None
    except BaseException:
        process.kill()
        raise
    process.join()
    if "error" in answer:
        raise ModelError(answer["error"])
    return answer


def _answer(sender: Connection, parent: int, model: Path, settings: EngineSettings, load: Load) -> None:
    for number in SIGNALS:  # the process that started this one is asked to stop, and stops it
        signal.signal(number, signal.SIG_IGN)
    die_with(parent)
    try:
        answer = _measure(model, settings, load)
    except NoDistribution:
        answer = {"error": str(NoDistribution(model))}
    except DistillError as error:
        answer = {"error": str(error)}
    sender.send(answer)


def _measure(model: Path, settings: EngineSettings, load: Load) -> dict[str, Any]:
    """Returns memory in bytes before and at most, seconds and mean tokens of each request alone, tokens and seconds of
    all together each time.

    All is asked once before it counts.
    """
    import torch

    from distill.sampling.memory import peak_memory

    libraries = peak_memory(settings.device)
    decoding = load.decoding.temperature, load.decoding.top_p, load.max_new_tokens
    with open_engine(model, _for_load(model, settings, load)) as engine:
        engine.generate(load.requests, *decoding)
        engine.generate(load.requests[:1], *decoding)
        latencies, tokens = [], 0
        for request in load.requests:
            began = time.perf_counter()
            (done,) = engine.generate([request], *decoding)
            latencies.append(time.perf_counter() - began)
            tokens += len(done.token_ids)
        seconds = []
        for _ in range(_BATCHES):
            began = time.perf_counter()
            batch = engine.generate(load.requests, *decoding)
            seconds.append(time.perf_counter() - began)
        return {
            "gpu": torch.cuda.get_device_name() if settings.device == "cuda" else None,
            "libraries_bytes": libraries,
            "peak_bytes": engine.peak_memory(),
            "latencies": latencies,
            "tokens": tokens / len(load.requests),
            "batch_tokens": sum(len(done.token_ids) for done in batch),
            "batch_seconds": seconds,
        }


def _for_load(model: Path, settings: EngineSettings, load: Load) -> EngineSettings:
    """Returns the settings with as many sequences and as large a cache as the load takes, and no more: what vLLM sets
    aside for others would hide what the model needs.
    """
    from transformers import AutoConfig

    sequences = min(settings.max_num_seqs, len(load.requests))
    config = AutoConfig.from_pretrained(model, local_files_only=True, trust_remote_code=False)
    heads, layers = config.num_attention_heads, config.num_hidden_layers
    own_heads = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    blocks = sequences * (math.ceil(settings.max_model_len / _BLOCK) + 1)
    token = (
        2 * layers * math.ceil(own_heads / settings.tensor_parallel) * width * (4 if settings.dtype == "float32" else 2)
    )
    return replace(settings, max_num_seqs=sequences, kv_cache_gib=blocks * _BLOCK * token / 2**30)
