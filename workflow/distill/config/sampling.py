"""Config sections of text generation: the engine, the teacher's samples, candidate sets, and evaluation decodings."""

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
    gpu_memory_utilization: float = Field(0.3, gt=0, le=1, description="Share of memory vLLM may claim; in (0, 1].")
    kv_cache_gib: float = Field(0.25, gt=0, description="Key-value cache on CPU in GiB; above 0.")


class TeacherSamples(Section):
    """The distillation corpus D*: responses sampled from the fine-tuned teacher."""

    per_prompt: int = Field(4, ge=1, description="Responses a prompt (paper, training section: 8).")
    prompts: int | None = Field(
        2000,
        ge=1,
        description="Sample the first so many training prompts, labelled or not; null takes all (paper). MiniLLM "
        "answers the same prompts.",
    )
    held_out_prompts: int = Field(
        100, ge=1, description="Dev prompts sampled besides, on which phase 2's own objective is watched; at least 1."
    )
    temperature: float = Field(1.0, gt=0, description="Sampling temperature; above 0 (paper: 1).")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus mass of the sampling; in (0, 1] (paper: unstated).")
    max_new_tokens: int = Field(40, ge=1, description="Longest response in tokens (paper: 256); at least 1.")
    shards: int = Field(
        2,
        ge=1,
        description="Independent jobs, of sampling and of candidate sets; results do not depend on it; at least 1.",
    )


class Candidates(Section):
    """The teacher's top-p sets along its own samples, computed once."""

    p_max: float = Field(0.95, gt=0, lt=1, description="Largest p kept; any smaller p is a prefix; in (0, 1).")
    batch: int = Field(64, ge=1, description="Sequences a teacher forward pass; at least 1.")


class Decoding(Section):
    """One way of decoding: temperature 0 is greedy and runs once, without seeds."""

    temperature: float = Field(1.0, ge=0, description="Temperature; 0 is greedy (paper: 1).")
    top_p: float = Field(
        1.0, gt=0, le=1, description="Nucleus mass; in (0, 1] (paper: unstated; authors' scripts: 0.8)."
    )


class Generation(Section):
    """Evaluation: what each selected model answers on each set."""

    seeds: list[int] = Field(
        [10, 20, 30, 40, 50], min_length=1, description="Sampling seeds (paper: 10, 20, 30, 40, 50)."
    )
    decodings: dict[str, Decoding] = Field(
        default_factory=lambda: {
            "top_p_1.0": Decoding(),
            "top_p_0.8": Decoding(top_p=0.8),
            "greedy": Decoding(temperature=0),
        },
        min_length=1,
        description="Decodings by name; the first is the primary one, used for validation and win rates.",
    )
    max_new_tokens: int = Field(40, ge=1, description="Longest response in tokens (paper: 256); at least 1.")
    dev_rows: int | None = Field(
        200, ge=1, description="Validate checkpoints on the first so many dev rows; null takes all."
    )
    dev_seed: int = Field(10, ge=0, description="Sampling seed of validation.")
