"""Generation that outlives a kill: requests go through the engine in blocks, and each finished block is a file."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.files import digest_value, read_jsonl, write_jsonl
from distill.pieces import ALONE, Share
from distill.progress import Progress
from distill.sampling.engines import open_engine
from distill.sampling.protocol import (
    Completion,
    Engine,
    EngineSettings,
    NoDistribution,
    Request,
    check_completions,
)
from distill.sealed_files import is_sealed, seal_file
from distill.stopping import check, deferred


class LazyEngine:
    """Starts an engine at its first use, so that work found on disk costs no start; closes it on leaving.

    `use` names the checkpoint wanted first and next; a running engine takes over its weights instead of starting again.
    `vocabulary`: how many ids the tokenizer can name.
    """

    _wanted: Path

    def __init__(self, settings: EngineSettings, vocabulary: int):
        self._settings, self._vocabulary = settings, vocabulary
        self._loaded: Path | None = None
        self._engine: Engine | None = None

    def use(self, model_folder: Path) -> "LazyEngine":
        """Names the checkpoint that `generate` must have loaded."""
        self._wanted = model_folder
        return self

    def generate(
        self, requests: Sequence[Request], temperature: float, top_p: float, max_new_tokens: int
    ) -> list[Completion]:
        """Answers every request with the wanted weights; see `Engine.generate` and `check_completions`."""
        try:
            completions = self.start().generate(requests, temperature, top_p, max_new_tokens)
        except NoDistribution:
            raise NoDistribution(self._wanted) from None
        check_completions(completions, self._vocabulary)
        return completions

    def start(self) -> Engine:
        """Returns the engine with the wanted weights loaded."""
        if self._engine is None:
            self._engine = open_engine(self._wanted, self._settings)
        elif self._loaded != self._wanted:
            self._engine.load_weights(self._wanted)
        self._loaded = self._wanted
        return self._engine

    def __enter__(self) -> "LazyEngine":
        return self

    def __exit__(self, *error: object) -> None:
        if self._engine is not None:
            self._engine.close()


@dataclass(frozen=True)
class Batch:
    """Requests to one model under one decoding, made in blocks of which each is a file.

    A block's file is named by the digest of its requests and decoding; what else may not change (model, engine, code)
    must be in the folder's own fingerprint.

    Attributes:
        model: folder of the checkpoint.
        requests: to answer.
        temperature, top_p, max_new_tokens: the decoding.
        folder: of the blocks; it outlives a kill.
        size: requests a block.
    """

    model: Path
    requests: Sequence[Request]
    temperature: float
    top_p: float
    max_new_tokens: int
    folder: Path
    size: int = 4096

    def blocks(self) -> Iterator[tuple[Path, Sequence[Request]]]:
        """Yields the file of each block and its requests."""
        decoding = [self.temperature, self.top_p, self.max_new_tokens]
        for start in range(0, len(self.requests), self.size):
            part = self.requests[start : start + self.size]
            key = digest_value([decoding, [[r.id, r.prompt_ids, r.seed, r.n] for r in part]])[:24]
            yield self.folder / f"{key}.jsonl", part

    def completions(self, share: Share = ALONE) -> Iterator[Completion]:
        """Yields the completions of all requests, in order, once their blocks are whole; no more than one is held."""
        for path, _ in self.blocks():
            share.wait_for(path)
            for _, row in read_jsonl(path):
                yield Completion(**row)


def generate_blocks(engine: LazyEngine, batches: Iterable[Batch], share: Share = ALONE) -> None:
    """Makes the blocks of a process that are not whole yet. A request to stop waits for the block under way."""
    blocks = enumerate((batch, *block) for batch in batches for block in batch.blocks())
    left = [block for number, block in blocks if share.has(number) and not is_sealed(block[1])]
    answers = sum(request.n for _, _, requests in left for request in requests)
    with Progress(total=answers, unit="answer", disable=share.rank > 0 or not left) as progress:
        for batch, path, requests in left:
            engine.use(batch.model).start()
            began = time.perf_counter()
            with deferred():
                done = engine.generate(requests, batch.temperature, batch.top_p, batch.max_new_tokens)
                write_jsonl(path, map(vars, done))
                seal_file(path)
            speed = sum(len(one.token_ids) for one in done) / (time.perf_counter() - began)
            progress.set_postfix_str(f"{speed:,.0f} tokens/s", refresh=False)
            progress.update(len(done))
            check()
