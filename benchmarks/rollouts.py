"""Tokens a second of the engines that answer prompts in training: the sampler in its process, and vLLM.

    .venv/bin/python benchmarks/rollouts.py > benchmarks/rollouts.csv

Models have the shapes of the embedded study's student and teacher and random weights, so that nearly every answer is
as long as it may be. Between two rounds vLLM loads a saved checkpoint, as it must after every update of the student.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from measuring import print_header, print_row
from shapes import EOS_ID, ModelShape, build_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from distill.losses.log_probs import token_log_probs
from distill.models.load import load_model, save_model
from distill.models.packed import PackedModel
from distill.models.packing import PackedBatch
from distill.rollouts.sampler import Sampler, no_scores
from distill.sampling.engines import open_engine
from distill.sampling.protocol import EngineSettings, Request

ENGINES = ("sampler", "sampler with scores", "vllm")
SEED, KV_CACHE_GIB = 10, 0.25
COLUMNS = ("engine", "batch", "measure")

Spent = tuple[float, float]
"""Wall seconds and CPU seconds."""


@dataclass(frozen=True)
class Shape:
    """`answers` of up to `max_new_tokens` tokens to prompts of up to `prompt` tokens, `batches` of them at once."""

    student: ModelShape
    teacher: ModelShape
    vocabulary: int
    answers: int
    prompt: int
    max_new_tokens: int
    batches: tuple[int, ...]


SHAPES = {
    "embedded": Shape(
        ModelShape(64, 1, 2, 2, 192, 4), ModelShape(160, 4, 5, 5, 480, 4), 1024, 256, 64, 40, (32, 128, 256)
    ),
    "toy": Shape(ModelShape(64, 1, 2, 1, 64, 1.5), ModelShape(64, 2, 2, 1, 128, 2), 300, 8, 8, 6, (4, 8)),
}


def save_models(shape: Shape, folder: Path) -> None:
    """Writes student, the same after an update (other weights), and teacher as model folders."""
    names = {f"<{token}>": token for token in range(shape.vocabulary)}
    tokenizer = Tokenizer(WordLevel(names, unk_token="<1>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=f"<{EOS_ID}>").save_pretrained(folder / "tokenizer")
    for seed, (name, own) in enumerate(
        {"student": shape.student, "updated": shape.student, "teacher": shape.teacher}.items()
    ):
        (folder / name).mkdir()
        model = build_model(own, shape.vocabulary, seed, "cpu", torch.float32)
        save_model(model, folder / "tokenizer", folder / name)


def prompts_of(shape: Shape) -> list[list[int]]:
    """Returns prompts of random tokens, from a quarter of the longest length to all of it."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(shape.prompt // 4, shape.prompt + 1, (shape.answers,), generator=generator).tolist()
    return [torch.randint(1, shape.vocabulary, (length,), generator=generator).tolist() for length in lengths]


def spent(work: Callable[[], object]) -> Spent:
    """Returns what some work took; the CPU seconds are those of all threads."""
    before = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - before[0], time.process_time() - before[1]


class InProcess:
    """The sampler, with what it keeps of each answer."""

    def __init__(self, shape: Shape, folder: Path, with_scores: bool):
        self.shape, self.prompts = shape, prompts_of(shape)
        self.student, self.teacher = (PackedModel(load_model(folder / name)) for name in ("student", "teacher"))
        self.score = self.log_probs if with_scores else no_scores

    def log_probs(self, student: PackedModel, batch: PackedBatch, seeds: Sequence[int]) -> dict[str, Tensor]:
        """Returns what both models say of the tokens, as policy gradients keep it."""
        models = {"student": student, "teacher": self.teacher}
        return {name: token_log_probs(model.states(batch), batch.actions) for name, model in models.items()}

    def answer(self, batch: int) -> int:
        """Answers all prompts; returns the tokens."""
        sampler = Sampler(EOS_ID, self.shape.max_new_tokens, batch, score=self.score)
        rollouts = sampler.sample(self.student, self.prompts, range(len(self.prompts)))
        return sum(len(rollout.response_ids) for rollout in rollouts)

    def update(self) -> None:
        """Nothing: the student is the one in training."""


class Vllm:
    """The engine, which takes new weights from folders in turn."""

    def __init__(self, shape: Shape, folder: Path):
        self.shape, prompts = shape, prompts_of(shape)
        self.requests = [Request(str(number), prompt, SEED) for number, prompt in enumerate(prompts)]
        self.folders = [folder / "updated", folder / "student"]
        settings = EngineSettings(
            max_model_len=shape.prompt + shape.max_new_tokens,
            max_num_seqs=max(shape.batches),
            kv_cache_gib=KV_CACHE_GIB,
        )
        self.engine = open_engine(folder / "student", settings)

    def answer(self, batch: int) -> int:
        """Answers all prompts; returns the tokens."""
        found = 0
        for start in range(0, len(self.requests), batch):
            requests = self.requests[start : start + batch]
            found += sum(
                len(done.token_ids) for done in self.engine.generate(requests, 1.0, 1.0, self.shape.max_new_tokens)
            )
        return found

    def update(self) -> None:
        """Loads the other weights."""
        self.engine.load_weights(self.folders[0])
        self.folders.reverse()


def run_engine(
    name: str, shape: Shape, folder: Path, rounds: int
) -> tuple[Spent, list[Spent], dict[int, list[tuple[int, Spent]]]]:
    """Returns, in a process of its own, what start-up took, each update, and by batch the tokens of each round."""
    torch.set_num_threads(1)
    opened: list[InProcess | Vllm] = []

    def start() -> None:
        opened.append(Vllm(shape, folder) if name == "vllm" else InProcess(shape, folder, name != ENGINES[0]))

    started, (engine,) = spent(start), opened
    updates, found = [], {batch: [] for batch in shape.batches}
    engine.answer(max(shape.batches))  # loads the libraries' code
    for _ in range(rounds):
        updates.append(spent(engine.update))
        for batch, own in found.items():
            tokens: list[int] = []
            taken = spent(lambda batch=batch, tokens=tokens: tokens.append(engine.answer(batch)))
            own.append((tokens[0], taken))
    return started, updates, found


def measure(name: str, shape: Shape, folder: Path, rounds: int) -> None:
    """Prints tokens a second by batch, the seconds of start-up, and of new weights where they must be loaded."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        started, updates, found = process.submit(run_engine, name, shape, folder, rounds).result()
    for place, clock in enumerate(("wall", "cpu")):
        print_row((name, "all", "start-up"), f"{clock}_seconds", [started[place]])
        if name == "vllm":
            print_row((name, "all", "new weights"), f"{clock}_seconds", [taken[place] for taken in updates])
        for batch, own in found.items():
            print_row((name, batch, "tokens"), f"per_{clock}_second", [tokens / taken[place] for tokens, taken in own])
    for batch, own in found.items():
        print_row((name, batch, "tokens"), "an_answer", [tokens / shape.answers for tokens, _ in own])


def main(arguments: Sequence[str]) -> None:
    """Prints the measurements as CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="embedded")
    parser.add_argument("--engines", choices=ENGINES, nargs="+", default=ENGINES, help="default: all")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    os.environ["DS_ACCELERATOR"] = "cpu"  # else DeepSpeed, which transformers imports, warns on standard output
    print_header("cpu", 1, COLUMNS)
    with TemporaryDirectory() as folder:
        save_models(SHAPES[given.shape], Path(folder))
        for name in given.engines:
            measure(name, SHAPES[given.shape], Path(folder), given.rounds)


if __name__ == "__main__":
    main(sys.argv[1:])
