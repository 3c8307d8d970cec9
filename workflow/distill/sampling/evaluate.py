"""Generates the answers of one model to one evaluation set."""

from collections.abc import Sequence
from pathlib import Path

from distill.config.generation import Decoding
from distill.data.tokens import Encoded, response_text
from distill.records import Generation
from distill.sampling.protocol import Completion, Request
from distill.sampling.resumable import LazyEngine, generate_in_blocks

_BLOCK = 4096


def generate_answers(
    engine: LazyEngine,
    examples: Sequence[Encoded],
    decoding: Decoding,
    seed: int,
    max_new_tokens: int,
    folder: Path,
) -> list[Completion]:
    """Returns one completion an example; a call of its own, kept by fingerprint in `folder`."""
    completions = generate_in_blocks(
        engine,
        [Request(example.id, example.prompt_ids, seed) for example in examples],
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        max_new_tokens=max_new_tokens,
        folder=folder,
        block=_BLOCK,
    )
    return [*completions]


def to_generations(
    completions: Sequence[Completion], examples: Sequence[Encoded], dataset: str, seed: int, decoding: str, tokenizer
) -> list[Generation]:
    """Returns rows with text: the wrapped prompt, and the response as of `response_text`."""
    prompts = {example.id: example.prompt for example in examples}
    return [
        Generation(
            id=done.id,
            dataset=dataset,
            seed=seed,
            decoding=decoding,
            prompt=prompts[done.id],
            response=response_text(tokenizer, done.token_ids),
            tokens=len(done.token_ids),
            finished=done.finished,
        )
        for done in completions
    ]
