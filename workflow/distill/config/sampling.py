"""The config's `sampling` section: the engine of every stage that generates text."""

from typing import Literal

from pydantic import Field

from distill.config.base import Section


class Sampling(Section):
    """The engine behind the teacher's samples, validation and evaluation."""

    engine: Literal["vllm", "transformers"] = Field(
        "vllm", description="vllm, or transformers where vLLM does not support the machine (slower, same distribution)."
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="Device of the generating stages: cpu or cuda.")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Arithmetic: float32 or bfloat16.")
    max_sequences: int = Field(512, ge=1, description="Sequences decoded at once; at least 1.")
    threads: int = Field(
        1, ge=1, description="CPU threads an engine; part of the study, since it can change last digits."
    )
    processes: int = Field(
        1,
        ge=1,
        exclude=True,  # of what stages depend on
        description="Engines of a generating stage, which share its work in whole blocks; each has devices of its own. "
        "It changes no result and reruns nothing.",
    )
    tensor_parallel: int = Field(
        1,
        ge=1,
        description="Devices that share one engine's weights, for a model that does not fit one; with vLLM alone, and "
        "a divisor of the models' heads. On CPU: processes. Part of the study like threads.",
    )
    gpu_memory_utilization: float = Field(0.3, gt=0, le=1, description="Share of memory vLLM may claim; in (0, 1].")
    kv_cache_gib: float = Field(0.25, gt=0, description="Key-value cache on CPU in GiB; above 0.")
