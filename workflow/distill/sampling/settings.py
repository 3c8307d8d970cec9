"""From the config's `sampling` section to an engine's settings."""

from distill.config.sampling import Sampling
from distill.sampling.protocol import EngineSettings


def engine_settings(sampling: Sampling, max_model_len: int) -> EngineSettings:
    """Returns the settings of an engine that must fit `max_model_len` tokens (prompt and response)."""
    return EngineSettings(
        engine=sampling.engine,
        device=sampling.device,
        dtype=sampling.dtype,
        max_model_len=max_model_len,
        max_num_seqs=sampling.max_sequences,
        threads=sampling.threads,
        tensor_parallel=sampling.tensor_parallel,
        gpu_memory_utilization=sampling.gpu_memory_utilization,
        kv_cache_gib=sampling.kv_cache_gib if sampling.device == "cpu" else None,
    )
