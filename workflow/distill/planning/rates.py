"""How fast a machine is: what calibration measures, and the rates that plans count with."""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from distill.errors import DataError
from distill.files import write_json

Software = Literal["light", "train", "vllm"]


@dataclass(frozen=True)
class Measures:
    """What `plan --calibrate` measures on one thread of a CPU. The defaults: an Intel Xeon with AMX, beside other work.

    Attributes:
        gemm_fp32, gemm_bf16: FLOP a CPU second of a square matrix product.
        copied_bytes: bytes a CPU second of copying a large tensor.
        decode_steps: steps a CPU second of a tiny model of four blocks, 32 sequences, with its key-value cache.
        start_light, start_train, start_vllm: CPU seconds of a process that imports what a stage of the family does.
    """

    gemm_fp32: float = 169e9
    gemm_bf16: float = 1130e9
    copied_bytes: float = 5e9
    decode_steps: float = 308.0
    start_light: float = 0.16
    start_train: float = 2.7
    start_vllm: float = 4.6


@dataclass(frozen=True)
class Rates:
    """Rates of one device or one CPU thread.

    Attributes:
        fp32, bf16: FLOP/s that a training reaches.
        read_bytes: bytes/s at which decoding reads weights.
        layer: seconds to start one block's forward pass, whatever its size.
        token: seconds of a text engine's own work a generated token.
        start: seconds of a process by software family, its engine's start included.
    """

    fp32: float
    bf16: float
    read_bytes: float
    layer: float
    token: float
    start: dict[Software, float]

    def flops(self, precision: str) -> float:
        """Returns FLOP/s by the config's word: fp32, float32, bf16 or bfloat16."""
        return self.bf16 if precision.startswith("b") else self.fp32


SHARES = {"fp32": 0.42, "bf16": 0.1, "layer": 5.0, "token": 0.0256, "start_vllm": 1.2}
"""From measures to rates, fitted once to the records of the embedded study (fp32) and of presets/smollm2.yaml (bf16).

fp32, bf16: share of the matrix product's rate that a training step reaches: the rest goes into norms, softmax, AdamW
and small products, so that a CPU's fast bf16 product counts little. layer: blocks a decode step's time is shared by;
token: tokens of an engine that a decode step's time stands for; start_vllm: an engine's start for its import's time.
"""


def cpu_rates(measures: Measures) -> Rates:
    """Returns the rates of one CPU thread."""
    step = 1 / measures.decode_steps
    start: dict[Software, float] = {"light": measures.start_light, "train": measures.start_train}
    start["vllm"] = measures.start_vllm * SHARES["start_vllm"]
    return Rates(
        fp32=measures.gemm_fp32 * SHARES["fp32"],
        bf16=measures.gemm_bf16 * SHARES["bf16"],
        read_bytes=measures.copied_bytes,
        layer=step / SHARES["layer"],
        token=step * SHARES["token"],
        start=start,
    )


def gpu_rates(measures: Measures) -> Rates:
    """Returns the rates of a GPU, assumed and not measured; processes start as on the CPU.

    10^14 FLOP/s in bf16, a third of an A100's peak; 5,000 tokens/s of an engine; 1.5 TB/s; 30 microseconds a block.
    """
    return Rates(2e13, 1e14, 1.5e12, 3e-5, 1 / 5000, cpu_rates(measures).start)


def measures_path() -> Path:
    """Returns where a user's measures lie: bellman-distill/rates.json below XDG_CACHE_HOME or ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "bellman-distill" / "rates.json"


def read_measures(path: Path | None = None) -> Measures | None:
    """Returns the measures of this machine; None where it was not calibrated.

    Raises:
        DataError: the file holds something else.
    """
    path = path or measures_path()
    try:
        found = json.loads(path.read_bytes())
        measures = Measures(**{name: float(value) for name, value in found.items()})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: expected the rates of `plan --calibrate`, found {error}; calibrate again or delete it"
        ) from error
    if len(found) < len(fields(Measures)) or min(asdict(measures).values()) <= 0:
        raise DataError(f"{path}: expected {len(fields(Measures))} rates above 0, found other; calibrate again")
    return measures


def write_measures(measures: Measures, path: Path | None = None) -> Path:
    """Writes the measures for later plans; returns where."""
    path = path or measures_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(measures))
    return path
