"""Answers of one model to one evaluation set: what is asked of the engine, and the rows that come out."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from distill.config.generation import Decoding
from distill.data.tokens import Encoded, response_text
from distill.records import Generation
from distill.sampling.protocol import Completion, Request
from distill.sampling.resumable import Batch


def answer_batch(
    model: Path, examples: Sequence[Encoded], decoding: Decoding, seed: int, max_new_tokens: int, folder: Path
) -> Batch:
    """Returns what asks a model for one answer to each example, kept by fingerprint in `folder`."""
    requests = [Request(example.id, example.prompt_ids, seed) for example in examples]
    return Batch(model, requests, decoding.temperature, decoding.top_p, max_new_tokens, folder)


def to_generations(
    completions: Iterable[Completion], examples: Sequence[Encoded], dataset: str, seed: int, decoding: str, tokenizer
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
