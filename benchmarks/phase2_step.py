"""One phase-2 update of Bellman Distill: the official micro-steps against ours, by turns in one run.

    .venv/bin/python benchmarks/phase2_step.py > benchmarks/phase2_step.csv

An update is 16 teacher trajectories and 16 plain-text chunks, gradient clipping and AdamW. The official way is timed on
one sample a round (another one each round; all are padded to one size) and counts 16 times. Ours is the package's own
code on all of it: a pack of trajectories with stored candidate sets, and plain text in micro-batches.
"""

import argparse
import multiprocessing
import sys
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
from measuring import (
    matmul_speed,
    page_faults,
    peak_bytes,
    print_header,
    print_row,
    return_freed_blocks,
    reuse_heap,
    seconds,
)
from official_step import OfficialStep, Recipe
from shapes import EOS_ID, SHAPES, Data, P, Shape, make_data, student_and_teacher
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from distill.losses.candidate_sets import CandidateSets
from distill.losses.cross_entropy import distilled_nll
from distill.methods.bd.objective import bellman
from distill.methods.bd.reference import bellman_released, bellman_sampled
from distill.methods.bd.section import Bellman
from distill.methods.bd.trajectories import Trajectories, loss_weight
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences

OBJECTIVES = {"released": (Bellman(objective="released", p=P), 0.5), "sampled": (Bellman(reduction="sequence"), 0.0)}
"""Options of the Bellman term, a mean over sequences as in micro-batches of one, and the plain-text term's KD mix."""
RUNGS = {
    "R1 no unused work": Recipe(unused_work=False),
    "R2 and stored sets": Recipe(unused_work=False, live_teacher=False),
    "R3 and no padding": Recipe(unused_work=False, live_teacher=False, padding=False),
}
"""The official micro-step, repaired one waste after the other; what is left to ours are packing and chunks."""
SIDES, PARTS_OF_STEP, OPTIMISER = ("official", "ours"), ("bellman", "plain text"), ("both", "optimiser", "both")
WARM_UP = 1
PARTS = ("accuracy", "memory", "time", "repairs")
COLUMNS = ("vocabulary", "objective", "part", "measure", "side")


@dataclass(frozen=True)
class Workplace:
    """A shape at one vocabulary and where it runs."""

    shape: Shape
    vocabulary: int
    device: str
    dtype: torch.dtype
    threads: int
    pack: int
    chunks: int

    def models(self) -> tuple[PreTrainedModel, PreTrainedModel]:
        """Returns student and teacher, new ones each time."""
        torch.set_num_threads(self.threads)
        return student_and_teacher(self.shape, self.vocabulary, self.device, self.dtype)

    def official(self, objective: str, models: tuple, recipe: Recipe = Recipe()) -> OfficialStep:  # noqa: B008
        """Returns the official micro-step, or a repaired one."""
        options, kd_ratio = OBJECTIVES[objective]
        return OfficialStep(*models, options, P, self.shape.prompt, self.shape.response, EOS_ID, kd_ratio, recipe)

    def ours(self, objective: str, models: tuple) -> "OurStep":
        """Returns our update."""
        return OurStep(*map(PackedModel, models), *OBJECTIVES[objective], self.pack, self.chunks)


@dataclass
class OurStep:
    """Forward and backward pass of both terms, each a mean over the update, as a training task computes them.

    `pack`: trajectories of a micro-batch. `chunks`: plain-text chunks of a micro-batch.
    """

    student: PackedModel
    teacher: PackedModel
    options: Bellman
    kd_ratio: float
    pack: int
    chunks: int

    def bellman(self, data: Data) -> Tensor:
        """Returns the Bellman term of all trajectories, in packs, after its backward passes."""
        device, loss = self.student.model.device, 0.0
        whole = loss_weight(trajectories_of(data, "cpu"), CandidateSets.cat(data.sets), self.options).item()
        for start in range(0, len(data.pairs), self.pack):
            part = data[start : start + self.pack]
            batch = pack_sequences(part.pairs, device, with_final_state=True)
            sets = CandidateSets.cat(part.sets).to(device)
            terms = bellman(self.student.states(batch), trajectories_of(part, device), sets, self.options)
            (terms.total / whole).backward()
            loss += terms.total.detach() / whole
        return loss

    def plain_text(self, data: Data) -> Tensor:
        """Returns the plain-text term of all chunks, in micro-batches, after its backward passes."""
        loss, positions = 0.0, data.chunks[:, 1:].numel()
        for chunks in data.chunks.split(self.chunks):
            pairs = [(chunk[:1], chunk[1:]) for chunk in chunks.numpy()]
            batch = pack_sequences(pairs, self.student.model.device, with_final_state=False)
            teacher = None
            if self.kd_ratio:
                with torch.no_grad():
                    teacher = self.teacher.states(batch)
            part = distilled_nll(self.student.states(batch), batch.actions, teacher, self.kd_ratio).total / positions
            part.backward()
            loss += part.detach()
        return loss


def trajectories_of(data: Data, device: str | torch.device) -> Trajectories:
    """Returns the responses as transitions; all are finished."""
    return Trajectories(
        torch.tensor([token for _, response in data.pairs for token in response], device=device),
        torch.tensor([len(response) for _, response in data.pairs], device=device),
        torch.ones(len(data.pairs), dtype=torch.bool, device=device),
    )


def official_bellman(step: OfficialStep, data: Data, index: int) -> Tensor:
    """Returns the Bellman term of one sample after its backward pass."""
    loss = step.bellman(*data.pairs[index], data.sets[index].to(step.student.device))
    loss.backward()
    step.drop_teacher_graph()
    return loss.detach()


def official_plain_text(step: OfficialStep, data: Data, index: int) -> Tensor:
    """Returns the plain-text term of one chunk after its backward pass."""
    loss = step.plain_text(data.chunks[index].to(step.student.device))
    loss.backward()
    return loss.detach()


def forward_flops(model: PreTrainedModel, lengths: list[int], rows: int) -> float:
    """Returns the useful floating-point operations of a forward pass: layers, causal attention, logits of `rows`."""
    config, embeddings = model.config, model.get_input_embeddings().weight.numel()
    weights = sum(weight.numel() for weight in model.parameters()) - embeddings
    attention = 2 * config.num_hidden_layers * config.hidden_size * sum(length**2 for length in lengths)
    return 2 * weights * sum(lengths) + attention + 2 * embeddings * rows


def useful_flops(objective: str, models: tuple, data: Data) -> tuple[float, float]:
    """Returns those of the Bellman and of the plain-text term, backward passes included.

    The sampled objective needs a maximum over the vocabulary and no gradient of that size.
    """
    (student, teacher), chunk, (samples, tokens) = models, data.chunks.shape[1], data.chunks.shape
    backbone, whole = (forward_flops(student, data.lengths, rows) for rows in (0, data.response_tokens))
    heads = 3 if objective == "released" else 1
    rows = samples * (tokens - 1)
    plain_text = 3 * forward_flops(student, [chunk] * samples, rows)
    if OBJECTIVES[objective][1]:
        plain_text += forward_flops(teacher, [chunk] * samples, rows)
    return 3 * backbone + heads * (whole - backbone), plain_text


class Timings:
    """The pieces of work of one side, with models of its own.

    Attributes:
        work: {(objective, part, side): how often it counts in an update, and what to run in a round}.
    """

    def __init__(self, place: Workplace, data: Data, side: str, rungs: dict[str, Recipe]):
        models, samples = place.models(), len(data.pairs)
        self.side, self.place, self.samples = side, place, samples
        self.parameters = list(models[0].parameters())
        for weight in self.parameters:
            weight.grad = torch.zeros_like(weight)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=5e-6, betas=(0.9, 0.95), weight_decay=1e-6)
        self.work: dict[tuple[str, str, str], tuple[int, Callable[[int], object]]] = {}
        if side == "ours":
            self.work[OPTIMISER] = 1, lambda _: self.optimise()
        for objective in OBJECTIVES:
            if side == "ours":
                step = place.ours(objective, models)
                self.work[objective, "bellman", side] = 1, lambda _, step=step: step.bellman(data)
                self.work[objective, "plain text", side] = 1, lambda _, step=step: step.plain_text(data)
            else:
                step = place.official(objective, models)
                self.work[objective, "bellman", side] = samples, partial(official_bellman, step, data)
                self.work[objective, "plain text", side] = samples, partial(official_plain_text, step, data)
        for name, recipe in rungs.items() if side == "official" else ():
            step = place.official("released", models, recipe)
            if recipe.padding:
                self.work["released", "bellman", name] = samples, partial(official_bellman, step, data)
            else:  # samples differ in length, so that one of them does not stand for all
                run_all = partial(map, partial(official_bellman, step, data), range(samples))
                self.work["released", "bellman", name] = 1, lambda _, run_all=run_all: list(run_all())

    def optimise(self) -> None:
        """Clips the gradients and makes the update."""
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)

    def take(self, key: tuple[str, str, str], round_: int) -> float:
        """Returns the seconds an update that a piece of work takes in a round."""
        times, run = self.work[key]
        taken = times * seconds(partial(run, round_ % self.samples), self.place.device)
        if self.side == "official":  # which has no optimiser here to do it
            self.optimizer.zero_grad(set_to_none=False)
        return taken


_timings: Timings


def _begin(*arguments: object) -> None:
    global _timings
    _timings = Timings(*arguments)


def _take(key: tuple[str, str, str], round_: int) -> tuple[float, int]:
    """Returns the seconds of a piece of work of this process's side, and its page faults."""
    before = page_faults()
    return _timings.take(key, round_), page_faults() - before


def measure_time(place: Workplace, data: Data, rounds: int, rungs: dict[str, Recipe]) -> None:
    """Prints seconds an update of each part on both sides, the ratios by round, and what follows from them.

    Each side runs in a process of its own, by turns, part by part: what one leaves in caches and heap is not the
    other's.
    """
    keys = [(objective, part, side) for objective in OBJECTIVES for part in PARTS_OF_STEP for side in SIDES]
    keys += [*(("released", "bellman", name) for name in rungs), OPTIMISER]
    spent, speed, faults = defaultdict(list), [], 0
    with ExitStack() as stack:
        spawn = multiprocessing.get_context("spawn")
        processes = {
            side: stack.enter_context(ProcessPoolExecutor(1, spawn, _begin, (place, data, side, rungs)))
            for side in SIDES
        }
        for round_ in range(-WARM_UP, rounds):
            for key in keys:
                process = processes["ours" if key == OPTIMISER or key[2] == "ours" else "official"]
                taken, found = process.submit(_take, key, round_).result()
                if round_ >= 0:
                    spent[key].append(taken)
                    faults += found
            if round_ >= 0:
                speed.append(matmul_speed(place.device, place.dtype))
            print(f"{place.vocabulary}: round {round_ + 1} of {rounds}", file=sys.stderr)
    print(f"# vocabulary {place.vocabulary}: {faults / rounds:.0f} page faults a round", flush=True)

    unit = "cpu_seconds" if place.device == "cpu" else "seconds"
    for objective in OBJECTIVES:
        for side in SIDES:
            parts = *(spent[objective, part, side] for part in PARTS_OF_STEP), spent[OPTIMISER]
            spent[objective, "step", side] = list(map(sum, zip(*parts, strict=True)))
    for (objective, part, side), taken in spent.items():
        print_row((place.vocabulary, objective, part, "time", side), unit, taken)
    print_row((place.vocabulary, "both", "matmul", "speed", "both"), f"flop_per_{unit[:-1]}", speed)

    models = place.models()
    for objective in OBJECTIVES:
        flops = dict(zip(PARTS_OF_STEP, useful_flops(objective, models, data), strict=True))
        tokens = {"bellman": sum(data.lengths), "plain text": data.chunks[:, 1:].numel()}
        for known in (flops, tokens):
            known["step"] = sum(known.values())
        for part in flops:
            official, ours = (spent[objective, part, side] for side in SIDES)
            labels = place.vocabulary, objective, part
            print_row((*labels, "time", "official/ours"), "ratio", divide(official, ours))
            for side, taken in zip(SIDES, (official, ours), strict=True):
                print_row((*labels, "useful tokens", side), f"per_{unit[:-1]}", divide([tokens[part]] * rounds, taken))
                used = divide([flops[part]] * rounds, taken)
                print_row((*labels, "useful share of matmul speed", side), "share", divide(used, speed))


def divide(above: list[float], below: list[float]) -> list[float]:
    """Returns the ratios, round by round."""
    return [first / second for first, second in zip(above, below, strict=True)]


def memory_of_side(place: Workplace, data: Data, objective: str, side: str) -> int:
    """Returns the peak above weights and gradients of one official micro-step or of our whole update, in a new process.

    Optimisers have no part in it.
    """
    models = place.models()
    for weight in models[0].parameters():
        weight.grad = torch.zeros_like(weight)
    if side == "ours":
        if not OBJECTIVES[objective][1]:
            models = models[0], models[0]  # no teacher is needed, so none is held
        step = place.ours(objective, models)

        def both_terms() -> None:
            step.bellman(data)
            step.plain_text(data)

    else:
        step = place.official(objective, models)

        def both_terms() -> None:
            loss = step.bellman(*data.pairs[0]) + step.plain_text(data.chunks[0].to(place.device))
            loss.backward()

    both_terms()  # loads the libraries' code
    return peak_bytes(both_terms, place.device)


def measure_memory(place: Workplace, data: Data) -> None:
    """Prints the peak of each side in MiB, and the ratios: to the same objective, and to the release as it is."""
    return_freed_blocks()
    labels = "step", "memory above weights and gradients"
    peaks = {}
    for objective in OBJECTIVES:
        for side in SIDES:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                peak = process.submit(memory_of_side, place, data, objective, side).result() / 2**20
            peaks[objective, side] = peak
            print_row((place.vocabulary, objective, *labels, side), "mib", [peak])
        for name in dict.fromkeys((objective, "released")):
            against = "official/ours" if name == objective else "official released/ours"
            ratio = peaks[name, "official"] / peaks[objective, "ours"]
            print_row((place.vocabulary, objective, *labels, against), "ratio", [ratio])


def dense_double(objective: str, part: str, models: tuple, data: Data) -> Tensor:
    """Returns a term computed in float64 on whole logits, sample by sample, after its backward passes."""
    student, teacher = models
    options, kd_ratio = OBJECTIVES[objective]
    reference = bellman_released if objective == "released" else bellman_sampled
    loss, device = 0.0, student.device
    for index, (prompt, response) in enumerate(data.pairs):
        if part == "bellman":
            ids = torch.tensor([[*prompt, *response]], device=device)
            logits = student(ids, use_cache=False).logits[0, len(prompt) - 1 :]
            own = trajectories_of(Data([(prompt, response)], [], data.chunks), device)
            term = reference(logits, own, data.sets[index].to(device), options).mean
        else:
            chunk = data.chunks[index].to(device)
            logits = student(chunk[None, :-1], use_cache=False).logits[0]
            term = (1 - kd_ratio) * cross_entropy(logits, chunk[1:])
            if kd_ratio:
                with torch.no_grad():
                    target = teacher(chunk[None, :-1], use_cache=False).logits[0].softmax(-1)
                term = term + kd_ratio * cross_entropy(logits, target)
        (term / len(data.pairs)).backward()
        loss += term.detach() / len(data.pairs)
    return loss


def measure_accuracy(place: Workplace, data: Data) -> None:
    """Prints the relative error of loss and gradient (the worst parameter tensor, L2) of both sides, in float64 terms.

    The official side is given the stored sets, so that both sides and the referee compute one function.
    """
    models = place.models()
    doubles = [deepcopy(model).double() for model in models]
    own_models = place.models()
    for objective in OBJECTIVES:
        ours = place.ours(objective, own_models)
        official = place.official(objective, models, Recipe(unused_work=False, live_teacher=False))
        for part in PARTS_OF_STEP:
            dense_loss = dense_double(objective, part, doubles, data)
            run, own = (official_bellman, ours.bellman) if part == "bellman" else (official_plain_text, ours.plain_text)
            samples = range(len(data.pairs))
            losses = sum(run(official, data, index) for index in samples) / len(samples), own(data)
            students = (models[0], 1 / len(samples)), (own_models[0], 1)
            for side, loss, (student, share) in zip(SIDES, losses, students, strict=True):
                pairs = zip(student.parameters(), doubles[0].parameters(), strict=True)
                errors = [((share * a.grad.double() - b.grad).norm() / b.grad.norm()).item() for a, b in pairs]
                labels = place.vocabulary, objective, part
                print_row((*labels, "loss error", side), "relative", [abs(loss.double() / dense_loss - 1).item()])
                print_row((*labels, "gradient error", side), "relative", [max(errors)])
            for model in (models[0], own_models[0], doubles[0]):
                model.zero_grad()


def main(arguments: list[str]) -> None:
    """Prints the measurements as CSV and progress to stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, help="default: small, on a GPU qwen2.5")
    parser.add_argument("--vocabulary", type=int, nargs="+", help="default: those of the shape")
    parser.add_argument("--parts", choices=PARTS, nargs="+", default=PARTS, help="repairs: beside time (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pack", type=int, default=8, help="trajectories in a micro-batch of ours (default: 8)")
    parser.add_argument("--chunks", type=int, default=1, help="plain-text chunks in a micro-batch of ours (default: 1)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: float32, on a GPU bfloat16")
    given = parser.parse_args(arguments)
    on_gpu = given.device == "cuda"
    shape = SHAPES[given.shape or ("qwen2.5" if on_gpu else "small")]
    dtype = getattr(torch, given.dtype or ("bfloat16" if on_gpu else "float32"))
    torch.set_num_threads(given.threads)
    print_header(given.device, given.threads, COLUMNS)
    for vocabulary in given.vocabulary or shape.vocabularies:
        place = Workplace(shape, vocabulary, given.device, dtype, given.threads, given.pack, given.chunks)
        data = make_data(shape, PackedModel(place.models()[1]))
        sizes = torch.cat([sets.sizes for sets in data.sets]).double()
        print(
            f"# vocabulary {vocabulary}: {sum(data.lengths)} tokens of trajectories, {data.response_tokens} of them "
            f"responses, {sizes.mean():.1f} candidates a state (median {sizes.median():.0f})",
            flush=True,
        )
        if "accuracy" in given.parts:
            measure_accuracy(place, data[:3])
        if "memory" in given.parts:
            measure_memory(place, data)
        if "time" in given.parts:
            measure_time(place, data, given.rounds, RUNGS if "repairs" in given.parts else {})


if __name__ == "__main__":
    reuse_heap()
    main(sys.argv[1:])
