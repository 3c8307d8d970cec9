"""A plain transformers sampling loop, for where vLLM cannot be and for sampling from a model that is being trained."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import torch
from transformers import DynamicCache

from distill.errors import ConfigError
from distill.models.load import load_model
from distill.models.packed import PackedModel
from distill.models.vocabulary import agree_on_special_ids, declared_ids
from distill.sampling.memory import peak_memory
from distill.sampling.protocol import Completion, EngineSettings, NoDistribution, Request, check_requests
from distill.seeds import sequence_seed


def choose_tokens(logits: torch.Tensor, temperature: float, top_p: float, uniforms: torch.Tensor) -> torch.Tensor:
    """Returns one token id a row, (batch,) int64, by inverting the distribution function at `uniforms`.

    Args:
        logits: (batch, vocabulary), in float32 at least.
        temperature: 0 takes the most probable token and ignores the rest.
        top_p: keeps the fewest most probable tokens whose mass reaches it.
        uniforms: (batch,) float64 in [0, 1), the only randomness.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits / temperature, dim=-1)
    order = None
    if top_p < 1:
        probabilities, order = probabilities.sort(dim=-1, descending=True, stable=True)
        mass_before = probabilities.cumsum(dim=-1, dtype=torch.float64) - probabilities
        probabilities = probabilities.where(mass_before < top_p, 0)
    chosen = draw_tokens(probabilities, uniforms)
    return chosen if order is None else order.gather(-1, chosen[:, None]).squeeze(-1)


def draw_tokens(probabilities: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Returns one index a row of (batch, vocabulary) weights of any sum, (batch,) int64; `uniforms` as above."""
    cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)
    return torch.searchsorted(cumulative, uniforms[:, None] * cumulative[:, -1:], right=True).squeeze(-1)


@torch.no_grad()
def decode(
    models: Sequence[PackedModel],
    prompts: Sequence[list[int]],
    seeds: Sequence[int],
    eos_id: int,
    max_new_tokens: int,
    choose: Callable[[list[torch.Tensor], torch.Tensor], torch.Tensor],
) -> list[list[int]]:
    """Answers each prompt in one left-padded batch; returns token ids that end with `eos_id` if reached.

    Each sequence draws from a CPU generator of its own seed, one number a token, so neighbours change nothing but
    float rounding. The models are used in the mode (train or eval) they are in.

    Args:
        models: all read the same tokens, each with a key-value cache of its own; on one device.
        prompts, seeds: of each sequence.
        eos_id: ends a response.
        max_new_tokens: cuts a response.
        choose: takes each model's logits (batch, its vocabulary), in float32 at least, at the last position and uniform
            numbers (batch,) float64 in [0, 1); returns the next tokens (batch,) int64.

    Raises:
        NoDistribution: a model's logits are not finite.
    """
    device = models[0].model.device
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), eos_id)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    uniforms = torch.stack(
        [
            torch.rand(max_new_tokens, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
            for seed in seeds
        ]
    ).to(device)
    ids, mask = ids.to(device), mask.to(device)
    positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
    caches = [DynamicCache(config=model.model.config) for model in models]
    responses: list[list[int]] = [[] for _ in prompts]
    active = list(range(len(prompts)))
    for step in range(max_new_tokens):
        logits = [
            model.next_logits(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            )
            for model, cache in zip(models, caches, strict=True)
        ]
        for own in logits:
            if not own.amax(dim=-1).isfinite().all():  # a NaN is the largest of its row
                raise NoDistribution
        chosen = choose(logits, uniforms[:, step])
        for row, token in zip(active, chosen.tolist(), strict=True):
            responses[row].append(token)
        going = (chosen != eos_id).nonzero().squeeze(-1)
        if len(going) == 0:
            break
        if len(going) < len(active):
            for cache in caches:
                cache.batch_select_indices(going)
            active = [active[i] for i in going.tolist()]
            chosen, mask, positions, uniforms = chosen[going], mask[going], positions[going], uniforms[going]
        ids, positions = chosen[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(active), 1)], dim=-1)
    return responses


def sample_sequences(
    model: PackedModel,
    prompts: Sequence[list[int]],
    seeds: Sequence[int],
    eos_id: int,
    temperature: float,
    top_p: float,
    max_new_tokens: int,
) -> list[list[int]]:
    """Samples one response a prompt; batching, seeds and the responses' form as in `decode`."""

    def choose(logits: list[torch.Tensor], uniforms: torch.Tensor) -> torch.Tensor:
        return choose_tokens(logits[0], temperature, top_p, uniforms)

    return decode([model], prompts, seeds, eos_id, max_new_tokens, choose)


class TransformersEngine:
    """Samples from a transformers model in memory, `max_num_seqs` sequences at a time."""

    def __init__(self, model: PackedModel, eos_id: int, max_model_len: int, max_num_seqs: int):
        self.model, self.eos_id = model, eos_id
        self.max_model_len, self.max_num_seqs = max_model_len, max_num_seqs

    @classmethod
    def open(cls, model_folder: Path, settings: EngineSettings) -> Self:
        """Loads a checkpoint folder onto `settings.device`; see `open_engine`."""
        if settings.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("sampling.device: expected a CUDA device for cuda, found none; set it to cpu")
        torch.set_num_threads(settings.threads)
        eos_id, _ = agree_on_special_ids(model_folder, declared_ids(model_folder))
        model = PackedModel(load_model(model_folder, settings.dtype)).to(settings.device)
        return cls(model, eos_id, settings.max_model_len, settings.max_num_seqs)

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
        responses: list[list[int]] = []
        for start in range(0, len(samples), self.max_num_seqs):
            batch = samples[start : start + self.max_num_seqs]
            responses += sample_sequences(
                self.model,
                [request.prompt_ids for request, _ in batch],
                [sequence_seed(request.seed, request.id, sample) for request, sample in batch],
                self.eos_id,
                temperature,
                top_p,
                max_new_tokens,
            )
        return [
            Completion(request.id, sample, ids, ids[-1] == self.eos_id)
            for (request, sample), ids in zip(samples, responses, strict=True)
        ]

    def load_weights(self, model_folder: Path) -> None:
        """Puts another checkpoint in the model's place."""
        own = self.model.model
        dtype = str(own.dtype).removeprefix("torch.")
        self.model = PackedModel(load_model(model_folder, dtype)).to(own.device)

    def peak_memory(self) -> int:
        """Returns the most bytes that it has held; see `Engine.peak_memory`."""
        return peak_memory(self.model.model.device.type)

    def close(self) -> None:
        """Drops the model."""
        del self.model

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
