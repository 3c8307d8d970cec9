"""vLLM as a sampling engine, scheduled in this process, so that the schedule repeats exactly.

With `tensor_parallel` above 1 the model lies in worker processes, which talk on the loopback interface alone.
"""

import gc
import glob
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

# Read when vLLM is imported. With worker processes a tiny model starts in half a minute instead of seconds, and
# requests reach the scheduler in an order that depends on timing.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_NO_USAGE_STATS"] = os.environ["DO_NOT_TRACK"] = "1"
os.environ["VLLM_RAISE_ON_LOGIT_NANS"] = "1"  # otherwise tokens are drawn from them
# oneDNN keeps what it prepared for 1,024 shapes, 10 KB each for the smallest model; few of them come again.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from vllm import LLM, SamplingParams
from vllm.inputs import TokensPrompt
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind

from distill.errors import ConfigError, ModelError
from distill.models.folders import read_tensor_shapes
from distill.models.vocabulary import agree_on_special_ids, declared_ids
from distill.sampling.memory import peak_memory
from distill.sampling.protocol import Completion, EngineSettings, NoDistribution, Request, check_requests
from distill.seeds import sequence_seed

GIB = 1 << 30

# At an error it prints every request under way, in one line.
logging.getLogger("vllm.logging_utils.dump_input").setLevel(logging.CRITICAL)


def _repack_head(model: Any) -> None:
    # vLLM's reload fills a tied output layer through the embedding, but leaves the copy that CPU kernels use stale.
    model.lm_head.quant_method.process_weights_after_loading(model.lm_head)


def _peak_memory(worker: Any) -> int:
    return peak_memory(current_platform.device_type)


@contextmanager
def _without_patterns(folder: Path) -> Iterator[str]:
    """Yields a path of the folder without `*`, `?` and `[`: vLLM looks for weights by pattern."""
    if glob.escape(str(folder)) == str(folder):
        yield str(folder)
        return
    with tempfile.TemporaryDirectory(prefix="model-") as place:
        link = Path(place) / "link"
        link.symlink_to(folder.absolute(), target_is_directory=True)
        yield str(link)


class VllmEngine:
    """A checkpoint folder served by vLLM inside this process, on the device of the installed vLLM build.

    Every sample is a request of its own with its own seed. Prefix caching is off: reused blocks would make a
    response depend on the requests before it, and survive `load_weights`. Chunked prefill is off: vLLM's CPU
    sampler cannot rewind a seeded generator after a partial prefill.
    """

    def __init__(self, model_folder: Path, settings: EngineSettings):
        if settings.device != current_platform.device_type:
            raise ConfigError(
                f"sampling.device: expected {current_platform.device_type}, the device of the installed vLLM, found "
                f"{settings.device}; change the key, install the other build, or set sampling.engine to transformers"
            )
        self.shapes = read_tensor_shapes(model_folder)
        self.eos_id, _ = agree_on_special_ids(model_folder, declared_ids(model_folder))
        self.max_model_len = settings.max_model_len
        self.workers = settings.tensor_parallel if settings.tensor_parallel > 1 else 0
        if self.workers:  # processes of their own; of the others' threads vLLM would bind all to the same cores
            os.environ |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(settings.threads)}
        if settings.device == "cpu":
            torch.set_num_threads(settings.threads)
            if torch.cpu._is_amx_tile_supported():
                torch.cpu._init_amx()  # without the permission to use tiles, bf16 kernels die of SIGILL
        try:
            with _without_patterns(model_folder) as place:
                self.llm = LLM(
                    model=place,
                    skip_tokenizer_init=True,
                    generation_config="vllm",
                    dtype=settings.dtype,
                    max_model_len=settings.max_model_len,
                    tensor_parallel_size=settings.tensor_parallel,
                    distributed_executor_backend="mp" if self.workers else None,
                    max_num_seqs=settings.max_num_seqs,
                    max_num_batched_tokens=max(settings.max_model_len, 16384),
                    enable_chunked_prefill=False,
                    enable_prefix_caching=False,
                    enforce_eager=settings.device == "cpu",
                    gpu_memory_utilization=settings.gpu_memory_utilization,
                    kv_cache_memory_bytes=None if settings.kv_cache_gib is None else int(settings.kv_cache_gib * GIB),
                )
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{model_folder}: expected a model that vLLM can serve, found: {error}") from error

    def generate(
        self, requests: Sequence[Request], temperature: float, top_p: float, max_new_tokens: int
    ) -> list[Completion]:
        """Answers every request; see `Engine.generate`.

        Raises:
            ConfigError, DataError: as `check_requests`.
            NoDistribution: the model's logits are not finite.
        """
        check_requests(requests, temperature, top_p, max_new_tokens, self.max_model_len)
        samples = [(request, sample) for request in requests for sample in range(request.n)]
        params = [
            SamplingParams(
                temperature=temperature,
                top_p=top_p,
                max_tokens=max_new_tokens,
                seed=sequence_seed(request.seed, request.id, sample),
                stop_token_ids=[self.eos_id],
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
                skip_clone=True,
            )
            for request, sample in samples
        ]
        prompts = [TokensPrompt(prompt_token_ids=request.prompt_ids) for request, _ in samples]
        try:
            results = self.llm.generate(prompts, params, use_tqdm=False)
        except RuntimeError as error:
            if "NaNs detected in logits" in str(error):
                raise NoDistribution from error
            raise
        return [
            Completion(request.id, sample, list(output.token_ids), output.finish_reason == "stop")
            for (request, sample), result in zip(samples, results, strict=True)
            for output in result.outputs
        ]

    def load_weights(self, model_folder: Path) -> None:
        """Replaces the weights in place; see `Engine.load_weights`.

        Raises:
            ModelError: the folder is damaged, or its tensors have other names or shapes than the loaded ones.
        """
        if read_tensor_shapes(model_folder) != self.shapes:
            raise ModelError(
                f"{model_folder}: expected the tensor names and shapes of the engine's first model, found others; "
                "open an engine of its own for another architecture"
            )
        with _without_patterns(model_folder) as place:
            self.llm.collective_rpc("reload_weights", kwargs={"weights_path": place})
        self.llm.apply_model(_repack_head)

    def peak_memory(self) -> int:
        """Returns the most bytes that it has held, on all its devices; see `Engine.peak_memory`."""
        return sum(self.llm.collective_rpc(_peak_memory))

    def close(self) -> None:
        """Shuts vLLM down and frees a GPU's memory; that of a CPU goes with the process, which is near its end."""
        core: Any = self.llm.llm_engine.engine_core
        if current_platform.is_cpu() and not self.workers:
            # A shutdown, here or when Python exits, looks for garbage three times in all that was imported: 2 s.
            core._finalizer.detach()
            return
        core.shutdown()
        del self.llm, core
        gc.collect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
