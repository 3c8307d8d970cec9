"""Generation that outlives a kill: requests go through the engine in blocks, and each finished block is a file."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from distill.files import digest_value, read_jsonl, write_jsonl
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


def generate_in_blocks(
    engine: LazyEngine,
    requests: Sequence[Request],
    *,
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    folder: Path,
    block: int,
) -> Iterator[Completion]:
    """Yields the completions of all requests, in order; finished blocks in `folder` are read instead of generated.

    No more than a block is held. A block's file is named by the digest of its requests and decoding; what else may not
    change (model, engine, code) must be in the folder's own fingerprint. A damaged block is generated again. A request
    to stop waits for the block under way.
    """
    decoding = [temperature, top_p, max_new_tokens]
    for start in range(0, len(requests), block):
        part = requests[start : start + block]
        key = digest_value([decoding, [[r.id, r.prompt_ids, r.seed, r.n] for r in part]])[:24]
        path = folder / f"{key}.jsonl"
        if not is_sealed(path):
            engine.start()
            with deferred():
                write_jsonl(path, map(vars, engine.generate(part, temperature, top_p, max_new_tokens)))
                seal_file(path)
            check()
        for _, row in read_jsonl(path):
            yield Completion(**row)
