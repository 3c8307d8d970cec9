"""Models of known shapes with random weights, and invented trajectories along which they are timed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config

from distill.losses.candidate_sets import CandidateSets, top_p_sets
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences

EOS_ID = 0
"""Also the pad id, as in GPT-2; no other token of a text has it."""
P = 0.8

Pair = tuple[list[int], list[int]]


@dataclass(frozen=True)
class ModelShape:
    """A Qwen2 model with tied embeddings.

    `inner`: width of the feed-forward blocks. `logit_std`: spread of the logits, which random weights are scaled to.
    """

    width: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    logit_std: float


@dataclass(frozen=True)
class Shape:
    """Student, teacher and data of a step: `samples` trajectories and as many plain-text chunks.

    `prompt` and `response`: tokens that the official recipe pads to; lengths stay below. `chunk`: tokens of a
    plain-text chunk. `seed`: of the lengths; in `small` the one of 20,000 whose 16 samples come closest to 1,170
    prompt and 994 response tokens.
    """

    student: ModelShape
    teacher: ModelShape
    vocabularies: tuple[int, ...]
    samples: int = 16
    prompt: int = 256
    response: int = 256
    chunk: int = 512
    seed: int = 14814


SHAPES = {
    "small": Shape(ModelShape(128, 4, 2, 1, 672, 4), ModelShape(256, 8, 4, 2, 1344, 7), (50_257, 151_936)),
    "qwen2.5": Shape(ModelShape(896, 24, 14, 2, 4864, 4), ModelShape(2048, 36, 16, 2, 11_008, 7), (151_936,)),
    "toy": Shape(ModelShape(32, 1, 2, 1, 64, 1.5), ModelShape(64, 2, 2, 1, 128, 2), (300,), 3, 24, 16, 24),
}


@torch.no_grad()
def build_model(shape: ModelShape, vocabulary: int, seed: int, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """Returns a random model in evaluation mode whose final norm is scaled until its logits have that spread."""
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=1024,
        initializer_range=0.5 * shape.width**-0.5,
        tie_word_embeddings=True,
        bos_token_id=EOS_ID,
        eos_token_id=EOS_ID,
        pad_token_id=EOS_ID,
    )
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa").eval()
        tokens = torch.randint(1, vocabulary, (1, 64))
    model.model.norm.weight *= shape.logit_std / model(tokens, use_cache=False).logits.float().std()
    return model


def student_and_teacher(
    shape: Shape, vocabulary: int, device: str, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Returns the two models; equal arguments give equal weights."""
    return (
        build_model(shape.student, vocabulary, 1, device, dtype),
        build_model(shape.teacher, vocabulary, 2, device, dtype),
    )


@dataclass(frozen=True)
class Data:
    """Trajectories that the teacher sampled, its sets along them, and plain-text chunks [samples, tokens]."""

    pairs: list[Pair]
    sets: list[CandidateSets]
    chunks: Tensor

    @property
    def lengths(self) -> list[int]:
        """Tokens of each trajectory."""
        return [len(prompt) + len(response) for prompt, response in self.pairs]

    @property
    def response_tokens(self) -> int:
        """Response tokens of all trajectories."""
        return sum(len(response) for _, response in self.pairs)

    def __getitem__(self, samples: slice) -> "Data":
        """Returns some of the trajectories and chunks."""
        return Data(self.pairs[samples], self.sets[samples], self.chunks[samples])


def draw_lengths(shape: Shape, samples: int, seed: int) -> tuple[list[int], list[int]]:
    """Returns log-normal prompt and response lengths like those of short instructions (EOS counts)."""
    generator = np.random.default_rng(seed)
    prompts = np.exp(generator.normal(np.log(62), 0.65, samples)).clip(min(36, shape.prompt // 2), shape.prompt)
    responses = np.exp(generator.normal(np.log(75), 0.95, samples)).clip(4, shape.response - 1)
    return prompts.astype(int).tolist(), responses.astype(int).tolist()


@torch.no_grad()
def sample_pairs(
    teacher: PreTrainedModel, prompt_lengths: Sequence[int], response_lengths: Sequence[int], seed: int
) -> list[Pair]:
    """Returns random prompts and the teacher's answers, each cut to its length, EOS its last token.

    One token in four is drawn from all: random weights alone would soon repeat one token for ever.
    """

    def mix(_: Tensor, scores: Tensor) -> Tensor:
        return (0.75 * scores.softmax(-1) + 0.25 * scores.isfinite() / scores.shape[-1]).log()

    device, vocabulary, longest = teacher.device, teacher.config.vocab_size, max(prompt_lengths)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        prompts = [torch.randint(1, vocabulary, (length,)) for length in prompt_lengths]
        left = [longest - length for length in prompt_lengths]
        padded = [torch.nn.functional.pad(ids, (pad, 0)) for ids, pad in zip(prompts, left, strict=True)]
        mask = torch.arange(longest) >= torch.tensor(left)[:, None]
        steps = max(response_lengths) - 1
        sampling = {"do_sample": True, "top_k": 0, "min_new_tokens": steps, "max_new_tokens": steps}
        found = teacher.generate(
            torch.stack(padded).to(device), attention_mask=mask.long().to(device), logits_processor=[mix], **sampling
        )
    answers = found[:, longest:].tolist()
    return [
        (ids.tolist(), [*answer[: length - 1], EOS_ID])
        for ids, answer, length in zip(prompts, answers, response_lengths, strict=True)
    ]


@torch.no_grad()
def candidate_sets(teacher: PackedModel, pairs: list[Pair], p: float) -> list[CandidateSets]:
    """Returns the teacher's sets at s_0 .. s_L of each pair, on the CPU."""
    found = []
    for pair in pairs:
        states = teacher.states(pack_sequences([pair], teacher.model.device, with_final_state=True))
        found.append(top_p_sets(states.logits().softmax(-1), p).to("cpu"))
    return found


def make_data(shape: Shape, teacher: PackedModel, p: float = P, samples: int | None = None) -> Data:
    """Returns the data of a step; without `samples` that of the shape."""
    samples, generator = samples or shape.samples, np.random.default_rng(shape.seed + 1)
    pairs = sample_pairs(teacher.model, *draw_lengths(shape, samples, shape.seed), seed=3)
    chunks = torch.from_numpy(generator.integers(1, teacher.vocabulary, (samples, shape.chunk)))
    return Data(pairs, candidate_sets(teacher, pairs, p), chunks)
