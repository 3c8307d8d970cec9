"""How time and memory of our Bellman step grow: with tokens, with uneven lengths, with the vocabulary, and with p.

    .venv/bin/python benchmarks/scaling.py > benchmarks/scaling.csv

A step is forward and backward pass of one pack of teacher trajectories (`phase2_step.py`).
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from measuring import peak_bytes, print_header, print_row, reuse_heap, seconds
from phase2_step import OBJECTIVES, OurStep, trajectories_of
from shapes import SHAPES, Data, P, Shape, candidate_sets, draw_lengths, make_data, sample_pairs, student_and_teacher

from distill.losses.candidate_sets import CandidateSets
from distill.losses.states import top_tokens
from distill.methods.bd.objective import bellman
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences

SIZES = (0.5, 1, 2, 4, 8)
"""Trajectories of a pack, in updates."""
SPREADS = (0, 0.25, 0.5, 1)
"""Standard deviation of the logarithm of lengths with one sum."""
VOCABULARIES = (8_192, 16_384, 32_768, 50_257, 98_304, 151_936)
P_VALUES = (0.5, 0.8, 0.9, 0.95, 0.99)
WARM_UP = 2
COLUMNS = ("study", "x", "objective", "measure")


def build(shape: Shape, vocabulary: int) -> tuple[dict[str, OurStep], PackedModel]:
    """Returns our step for each objective, on one student with gradients to add to, and the teacher."""
    student, teacher = map(PackedModel, student_and_teacher(shape, vocabulary, "cpu", torch.float32))
    for weight in student.parameters():
        weight.grad = torch.zeros_like(weight)
    return {
        name: OurStep(student, teacher, *OBJECTIVES[name], pack=sys.maxsize, chunks=1) for name in OBJECTIVES
    }, teacher


def rounds_of(work: dict, rounds: int) -> dict:
    """Returns the CPU seconds of each piece of work, all of them in every round."""
    spent = defaultdict(list)
    for round_ in range(-WARM_UP, rounds):
        for key, run in work.items():
            taken = seconds(run, "cpu")
            if round_ >= 0:
                spent[key].append(taken)
    return spent


def measure_steps(study: str, packs: dict[float, Data], steps: dict[str, OurStep], rounds: int) -> dict:
    """Prints time and peak memory above weights and gradients of a step; returns the times by (x, objective)."""
    work = {(x, name): partial(step.bellman, data) for x, data in packs.items() for name, step in steps.items()}
    spent = rounds_of(work, rounds)
    for (x, name), taken in spent.items():
        print_row((study, x, name, "time"), "cpu_seconds", taken)
        print_row((study, x, name, "memory"), "mib", [peak_bytes(work[x, name], "cpu") / 2**20])
    return spent


def study_tokens(shape: Shape, vocabulary: int, rounds: int) -> None:
    """Prints time against the useful tokens of a pack, and how far a line through them is off."""
    steps, teacher = build(shape, vocabulary)
    counts = [int(size * shape.samples) for size in SIZES]
    data = make_data(shape, teacher, samples=max(counts))
    packs = {sum(data[:count].lengths): data[:count] for count in counts}
    spent = measure_steps("tokens", packs, steps, rounds)
    for name in steps:
        tokens = np.array(list(packs), dtype=float)
        taken = np.array([np.median(spent[x, name]) for x in packs])
        line = np.polyval(np.polyfit(tokens, taken, 1, w=1 / taken), tokens)
        print_row(("tokens", "all", name, "error of the linear fit"), "relative", np.abs(line / taken - 1))


def study_padding(shape: Shape, vocabulary: int, rounds: int) -> None:
    """Prints time against the share of padding that a rectangular batch would have, at one number of tokens."""
    steps, teacher = build(shape, vocabulary)
    prompts, responses = (sum(lengths) for lengths in draw_lengths(shape, shape.samples, shape.seed))
    packs = {}
    for spread in SPREADS:
        lengths = [uneven(total, shape.samples, spread) for total in (prompts, responses)]
        pairs = sample_pairs(teacher.model, *lengths, seed=4)
        data = Data(pairs, candidate_sets(teacher, pairs, P), torch.empty(0))
        share = 1 - sum(data.lengths) / (shape.samples * sum(map(max, lengths)))
        packs[round(share, 2)] = data
    measure_steps("padding", packs, steps, rounds)


def uneven(total: int, count: int, spread: float) -> list[int]:
    """Returns `count` lengths of at least 2 with a sum of `total`, log-normal around their mean."""
    weights = np.exp(np.random.default_rng(5).normal(0, spread, count))
    ends = np.rint((total - 2 * count) * weights.cumsum() / weights.sum()).astype(int)
    return (np.diff(ends, prepend=0) + 2).tolist()


def study_vocabulary(shape: Shape, vocabularies: Sequence[int], rounds: int) -> None:
    """Prints time against the vocabulary: of a step, and of two pieces of the sampled objective.

    Pieces, forward: the logits of candidates and actions with all that follows from them (Q unshifted, so that nothing
    else is read), and the largest logit of each state. All vocabularies have the sets of the smallest.
    """
    pairs, sets = None, None
    for vocabulary in sorted(vocabularies):
        steps, teacher = build(shape, vocabulary)
        if pairs is None:
            data = make_data(shape, teacher)
            pairs, sets = data.pairs, data.sets
        data = Data(pairs, sets, torch.empty(0))
        measure_steps("vocabulary", {vocabulary: data}, steps, rounds)
        student, joined, trajectories = loss_inputs(steps["sampled"], data)
        unshifted = steps["sampled"].options.model_copy(update={"q_shift": "none"})
        pieces: dict[str, Callable] = {
            "candidate part": lambda: bellman(student, trajectories, joined, unshifted),  # noqa: B023
            "largest logit": lambda: top_tokens(student),  # noqa: B023
        }
        with torch.no_grad():
            for name, taken in rounds_of(pieces, rounds).items():
                print_row(("vocabulary", vocabulary, "sampled", name), "cpu_seconds", taken)


def loss_inputs(step: OurStep, data: Data) -> tuple:
    """Returns the student's states of a pack, its candidate sets and its transitions."""
    with torch.no_grad():
        states = step.student.states(pack_sequences(data.pairs, "cpu", with_final_state=True))
    return states, CandidateSets.cat(data.sets), trajectories_of(data, "cpu")


def study_p(shape: Shape, vocabulary: int, rounds: int) -> None:
    """Prints time and mean size of the sets against p, cut from sets of the largest p."""
    steps, teacher = build(shape, vocabulary)
    data = make_data(shape, teacher, p=max(P_VALUES))
    packs = {p: replace(data, sets=[sets.prefix(p) for sets in data.sets]) for p in P_VALUES}
    for p, pack in packs.items():
        sizes = torch.cat([sets.sizes for sets in pack.sets]).double()
        print_row(("p", p, "both", "candidates a state"), "tokens", [sizes.mean().item()])
    measure_steps("p", packs, steps, rounds)


def main(arguments: list[str]) -> None:
    """Prints the measurements as CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--vocabularies", type=int, nargs="+", default=VOCABULARIES, help="of the study of them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    shape = SHAPES[given.shape]
    print_header("cpu", given.threads, COLUMNS)
    study_tokens(shape, shape.vocabularies[0], given.rounds)
    study_padding(shape, shape.vocabularies[0], given.rounds)
    study_vocabulary(shape, given.vocabularies, given.rounds)
    study_p(shape, shape.vocabularies[0], given.rounds)


if __name__ == "__main__":
    reuse_heap()
    main(sys.argv[1:])
