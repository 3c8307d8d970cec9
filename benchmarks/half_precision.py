"""What half precision costs and what it leaves right: losses and values on bf16 states against those of float64.

    PYTHONPATH=workflow python benchmarks/half_precision.py --update small >> benchmarks/half_precision.csv

Invented states of the shapes of SmolLM2-135M and Qwen-2.5-0.5B, or with `--model` real ones: SmolLM2 without six layers
against the whole model along human answers. The same bf16 numbers stand behind every side, so that what is measured is
what the package adds. Time and memory are those of the losses on the states, and of a whole update of `phase2_step.py`
in bf16. A package of another commit is measured by PYTHONPATH.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from measuring import peak_bytes, print_header, print_row, return_freed_blocks, reuse_heap, seconds
from phase2_step import Workplace
from shapes import SHAPES as STEP_SHAPES
from shapes import make_data
from torch import Tensor
from torch.nn.functional import pad
from transformers import AutoTokenizer

from distill.config.given_models import FolderModel
from distill.data.prompts import wrap
from distill.files import read_jsonl
from distill.losses.candidate_sets import CandidateSets, top_p_sets
from distill.losses.cross_entropy import token_nll
from distill.losses.states import ChunkLogits, States, gather_logits, softmax_entropy, top_tokens
from distill.methods.bd.objective import bellman
from distill.methods.bd.section import Bellman
from distill.methods.bd.trajectories import Trajectories
from distill.models.bases import build_base
from distill.models.layers import drop_layers
from distill.models.locate import locate
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences

P = 0.8
OFFSETS = (0, -100)
"""What is added to all logits of a state, through one more channel: no loss depends on it."""
SHAPES = {"smollm2": (49_152, 576, 400), "qwen2.5": (151_936, 896, 200), "toy": (300, 32, 40)}
"""Vocabulary, width and states of invented ones."""
LOGIT_STD, TEACHER_NOISE, LENGTH = 4.0, 0.3, 19
SMOLLM2 = dict(gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")
DROPPED = [13, 14, 15, 16, 17, 18]
ANSWERS, ANSWER_TOKENS = 8, 64
WARM_UP = 1
COLUMNS = ("states", "vocabulary", "width", "offset", "part", "measure")


@dataclass(frozen=True)
class Case:
    """Student and teacher states in bf16 along responses, and a token of each state."""

    name: str
    student: States
    teacher: States
    trajectories: Trajectories
    tokens: Tensor

    def shifted(self, offset: float) -> "Case":
        """Returns the case with an offset on all logits."""
        if not offset:
            return self

        def shift(states: States) -> States:
            hidden, weight = pad(states.hidden, (0, 1), value=1.0), pad(states.weight, (0, 1), value=float(offset))
            return replace(states, hidden=hidden, weight=weight)

        return replace(self, student=shift(self.student), teacher=shift(self.teacher))


def invented(name: str) -> Case:
    """Returns random states; the teacher's are the student's with some noise, and it draws the actions."""
    vocabulary, width, count = SHAPES[name]
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    hidden, weight = normal(count, width), normal(vocabulary, width) * LOGIT_STD / width**0.5
    head = weight.bfloat16()
    models = [
        States(own.bfloat16(), head, vocabulary) for own in (hidden, hidden + TEACHER_NOISE * normal(count, width))
    ]
    tokens = torch.cat([own.multinomial(1, generator=generator).squeeze(1) for own in probabilities(at(models[1]))])
    lengths = torch.full((count // (LENGTH + 1),), LENGTH)
    trajectories = Trajectories(torch.zeros(int(lengths.sum()), dtype=torch.long), lengths, lengths > 0)
    return Case(name, *models, replace(trajectories, actions=tokens[trajectories.state]), tokens)


def real(folder: str, instructions: str) -> Case:
    """Returns the states of SmolLM2 and of its pruned copy along the first answers of Dolly's file."""
    spec = FolderModel(path=folder, **SMOLLM2)
    tokenizer = AutoTokenizer.from_pretrained(locate(spec), local_files_only=True, **SMOLLM2)
    tokenizer_folder = Path(folder) / "tokenizer"
    tokenizer.save_pretrained(tokenizer_folder)
    pairs = []
    for _, row in islice(read_jsonl(instructions), ANSWERS):
        prompt, answer = (
            tokenizer.encode(text, add_special_tokens=False)
            for text in (wrap("alpaca", row["instruction"], row["context"]), row["response"])
        )
        pairs.append((prompt, [*answer[:ANSWER_TOKENS], tokenizer.eos_token_id]))
    teacher = build_base(spec, tokenizer_folder, len(tokenizer), 0)
    student = drop_layers(build_base(spec, tokenizer_folder, len(tokenizer), 0), DROPPED)
    models = [PackedModel(model.bfloat16().eval(), len(tokenizer)) for model in (student, teacher)]
    batch = pack_sequences(pairs, "cpu", with_final_state=True)
    with torch.no_grad():
        states = [model.states(batch) for model in models]
    lengths = torch.tensor(batch.response_lengths)
    trajectories = Trajectories(batch.actions, lengths, lengths > 0)
    tokens = top_tokens(at(states[1]))
    return Case("real", *states, trajectories, tokens)


def at(states: States, dtype: torch.dtype = torch.float32) -> States:
    """Returns the same numbers in another type."""
    return replace(states, hidden=states.hidden.to(dtype), weight=states.weight.to(dtype))


def probabilities(states: States) -> Iterator[Tensor]:
    """Yields the next-token probabilities of a chunk of states at a time."""
    logits = ChunkLogits(states)
    return (logits[chunk].softmax(-1) for chunk in states.chunks())


def sets_of(states: States) -> CandidateSets:
    """Returns the top-p sets, as `build_candidates` computes them."""
    return CandidateSets.cat([top_p_sets(probs, P) for probs in probabilities(states)])


def gradient(states: States, case: Case, sets: CandidateSets) -> Tensor:
    """Returns the gradient of the sampled objective on hidden states."""
    own = states.hidden.clone().requires_grad_()
    bellman(replace(states, hidden=own), case.trajectories, sets, Bellman()).total.backward()
    return own.grad.double()


def plain_gradient(states: States, case: Case) -> Tensor:
    """Returns the gradient of the cross entropy on hidden states."""
    own = states.hidden.clone().requires_grad_()
    token_nll(replace(states, hidden=own), case.tokens).total.backward()
    return own.grad.double()


def measure_exactness(case: Case, offset: float) -> None:
    """Prints how far gradients, largest logits, Q, sets and entropies are from those of the same states in float64."""
    own, labels = case.shifted(offset), (case.name, case.student.vocabulary, case.student.hidden.shape[1], offset)
    student, double, sets = own.student, at(own.student, torch.float64), sets_of(at(case.teacher))

    def error(found: Tensor, exact: Tensor) -> float:
        return ((found - exact).norm() / exact.norm()).item()

    def row(part: str, measure: str, unit: str, value: float) -> None:
        print_row((*labels, part, measure), unit, [value])

    exact = gradient(double, own, sets)
    row("sampled", "gradient error", "relative", error(gradient(student, own, sets), exact))
    row("sampled", "gradient error of the exact gradient in bf16", "relative", error(exact.bfloat16().double(), exact))
    exact = plain_gradient(double, own)
    row("sft", "gradient error", "relative", error(plain_gradient(student, own), exact))
    row("sft", "gradient error of the exact gradient in bf16", "relative", error(exact.bfloat16().double(), exact))
    top = top_tokens(student)
    row("largest logit", "wrong tokens", "share", (top != top_tokens(double)).double().mean().item())
    rows, everywhere = sets.rows, torch.arange(len(student))
    q = gather_logits(student, rows, sets.ids.long()) - gather_logits(student, everywhere, top)[rows]
    row("Q of candidates", "states with one above 0", "share", len(rows[q > 0].unique()) / len(student))
    row("Q of candidates", "largest", "nats", q.max().item())
    found, expected = (
        [set(part.tolist()) for part in one.ids.split(one.sizes.tolist())]
        for one in (sets_of(own.teacher), sets_of(at(own.teacher)))
    )
    differ = sum(one != other for one, other in zip(found, expected, strict=True)) / len(found)
    row("sets at p = 0.8", "others than of float32 logits", "share", differ)
    entropy = (softmax_entropy(student) - softmax_entropy(double)).abs().max().item()
    row("entropy", "largest error", "nats", entropy)


Work = dict[str, Callable[[], object]]


def work_of(make: Callable[[], Case]) -> Work:
    """Returns the losses with their gradients on hidden states and weight."""
    case = make()
    sets = sets_of(at(case.teacher))
    states = replace(case.student, weight=case.student.weight.clone().requires_grad_())
    return {"sampled": partial(gradient, states, case, sets), "sft": partial(plain_gradient, states, case)}


def update_of(shape: str) -> Work:
    """Returns our update with the sampled objective, optimiser apart."""
    place = Workplace(STEP_SHAPES[shape], STEP_SHAPES[shape].vocabularies[0], "cpu", torch.bfloat16, 1, 8, 1)
    models = place.models()
    data, step = make_data(place.shape, PackedModel(models[1])), place.ours("sampled", models)
    for weight in models[0].parameters():
        weight.grad = torch.zeros_like(weight)
    return {"update": lambda: (step.bellman(data), step.plain_text(data))}


def memory(make: Callable[[], Work], part: str) -> int:
    """Returns the peak of one piece of work above what was held before it, once it was done before."""
    torch.set_num_threads(1)
    work = make()[part]
    work()
    return peak_bytes(work, "cpu")


def measure_cost(labels: tuple, make: Callable[[], Work], rounds: int) -> None:
    """Prints CPU seconds and peak memory of each piece of work."""
    for part, run in make().items():
        taken = [seconds(run, "cpu") for _ in range(WARM_UP + rounds)][WARM_UP:]
        print_row((*labels, 0, part, "time"), "cpu_seconds", taken)
        return_freed_blocks()
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            peak = process.submit(memory, make, part).result()
        print_row((*labels, 0, part, "peak memory above states and weights"), "mib", [peak / 2**20])


def main(arguments: list[str]) -> None:
    """Prints the measurements as CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, nargs="*", default=("smollm2", "qwen2.5"))
    parser.add_argument("--model", help=f"folder with {SMOLLM2['gguf_file']} (presets/smollm2.yaml says where it is)")
    parser.add_argument("--instructions", help="databricks-dolly-15k.jsonl, with --model")
    parser.add_argument(
        "--update", choices=STEP_SHAPES, help="shape of the whole update, e.g. small; left out by default"
    )
    parser.add_argument("--parts", choices=("exactness", "cost"), nargs="+", default=("exactness", "cost"))
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print_header("cpu", 1, COLUMNS)
    cases = [partial(invented, name) for name in given.shape]
    if given.model:
        cases.append(partial(real, given.model, given.instructions))
    pieces = []
    for make in cases:
        case = make()
        labels = case.name, case.student.vocabulary, case.student.hidden.shape[1]
        for offset in OFFSETS if "exactness" in given.parts else ():
            measure_exactness(case, offset)
        pieces.append((labels, partial(work_of, make)))
    if given.update:
        shape = STEP_SHAPES[given.update]
        labels = f"update {given.update}", shape.vocabularies[0], shape.student.width
        pieces.append((labels, partial(update_of, given.update)))
    for labels, make in pieces if "cost" in given.parts else ():
        measure_cost(labels, make, given.rounds)


if __name__ == "__main__":
    reuse_heap()
    main(sys.argv[1:])
