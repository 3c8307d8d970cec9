"""What a sampling engine takes and gives; importing this module loads neither torch nor vLLM."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self

from distill.errors import ConfigError, DataError, ModelError


class NoDistribution(ModelError):
    """A model's logits are NaN or infinite, so that no token can be drawn."""

    def __init__(self, model: Path | str = "the sampled model"):
        super().__init__(
            f"{model}: expected finite logits, found NaN or infinity: its weights are damaged, its training diverged, "
            "or float16 is too narrow for it; look at its losses, or set sampling.dtype to float32 or bfloat16"
        )


@dataclass(frozen=True)
class Request:
    """One prompt (token ids) to be answered `n` times; sample `s` draws from `sequence_seed(seed, id, s)`."""

    id: str
    prompt_ids: list[int]
    seed: int
    n: int = 1


@dataclass(frozen=True)
class Completion:
    """One sampled response: `token_ids` end with EOS iff `finished`; otherwise the token limit cut them."""

    id: str
    sample: int
    token_ids: list[int]
    finished: bool


@dataclass(frozen=True)
class EngineSettings:
    """How an engine runs; none of it changes the distribution that is sampled, dtype apart.

    `device` must be the one of the installed vLLM build, and is free for transformers. `threads` is the number of CPU
    threads; `tensor_parallel` the devices that share the weights; `max_num_seqs` the sequences decoded at once;
    `max_model_len` the longest prompt plus response, in tokens. vLLM reserves `kv_cache_gib` GiB for keys and values on
    each device where it is given, and otherwise takes `gpu_memory_utilization` of the device's memory.
    """

    engine: Literal["vllm", "transformers"] = "vllm"
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    max_model_len: int = 512
    max_num_seqs: int = 256
    threads: int = 1
    tensor_parallel: int = 1
    gpu_memory_utilization: float = 0.3
    kv_cache_gib: float | None = None


class Engine(Protocol):
    """A loaded model that samples; a context manager, closed on leaving."""

    def generate(
        self, requests: Sequence[Request], temperature: float, top_p: float, max_new_tokens: int
    ) -> list[Completion]:
        """Answers every request; completions come in the order of requests, then of samples."""
        ...

    def load_weights(self, model_folder: Path) -> None:
        """Replaces the weights by another checkpoint of the same architecture and vocabulary."""
        ...

    def peak_memory(self) -> int:
        """Returns the most bytes that it has held: of GPUs what torch allocated, of a CPU all of its processes'."""
        ...

    def close(self) -> None:
        """Frees the model's memory; the engine cannot be used afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def check_completions(completions: Sequence[Completion], vocabulary: int) -> None:
    """Refuses token ids that the tokenizer cannot name: rows that pad a model's embeddings have such ids.

    Raises:
        DataError: an id is `vocabulary` or more.
    """
    for done in completions:
        if (largest := max(done.token_ids)) >= vocabulary:
            raise DataError(
                f"response {done.sample} to {done.id}: expected token ids from 0 to {vocabulary - 1}, the tokenizer's, "
                f"found {largest}; give the model without further embedding rows, as make_base and adopt_model write it"
            )


def check_requests(
    requests: Sequence[Request], temperature: float, top_p: float, max_new_tokens: int, max_model_len: int
) -> None:
    """Refuses what no engine can sample.

    Raises:
        ConfigError: temperature < 0, top_p outside (0, 1], or no new tokens allowed.
        DataError: a prompt is empty, or leaves no room for `max_new_tokens` within `max_model_len`.
    """
    if temperature < 0 or not 0 < top_p <= 1 or max_new_tokens < 1:
        raise ConfigError(
            f"decoding: expected temperature >= 0, 0 < top_p <= 1 and max_new_tokens >= 1, found temperature "
            f"{temperature}, top_p {top_p}, max_new_tokens {max_new_tokens}; correct the decoding in the config"
        )
    for request in requests:
        length = len(request.prompt_ids)
        if not 0 < length <= max_model_len - max_new_tokens:
            raise DataError(
                f"request {request.id}: expected a prompt of 1 to {max_model_len - max_new_tokens} tokens, found "
                f"{length}; drop the example, or raise max_model_len (now {max_model_len}; "
                f"{max_new_tokens} tokens are kept for the response)"
            )
