"""Sampling from a mixture of student and teacher, token by token, with one key-value cache a model."""

from collections.abc import Sequence

import torch
from torch import Tensor

from distill.losses.terms import add_up
from distill.models.packed import PackedModel
from distill.sampling.transformers_engine import decode, draw_tokens


def sample_mixture(
    student: PackedModel,
    teacher: PackedModel | None,
    teacher_mix: float,
    prompts: Sequence[list[int]],
    seeds: Sequence[int],
    eos_id: int,
    max_new_tokens: int,
    temperature: float = 1.0,
) -> list[list[int]]:
    """Samples one response a prompt, each token from (1 - a) q + a p, a = teacher_mix in [0, 1].

    Both distributions are over the model's first `vocabulary` logits divided by `temperature`, which is above 0. A
    model without a share is not run: the teacher may be None where a is 0. Batching, seeds and the responses' form are
    those of `decode`.
    """
    assert teacher is not None or teacher_mix == 0, "a model with a share is there"
    shares = ((1 - teacher_mix, student), (teacher_mix, teacher))
    parts = [(share, model) for share, model in shares if model is not None and share > 0]

    def choose(logits: list[Tensor], uniforms: Tensor) -> Tensor:
        mixture = add_up(
            share * torch.softmax(own / temperature, dim=-1) for (share, _), own in zip(parts, logits, strict=True)
        )
        return draw_tokens(mixture, uniforms)

    return decode([model for _, model in parts], prompts, seeds, eos_id, max_new_tokens, choose)
