"""One update of each divergence, policy-gradient and preference loss: ours, chunk by chunk, against its dense form.

    .venv/bin/python benchmarks/losses.py > benchmarks/losses.csv

An update is the loss of N states and its gradients on hidden states and output matrix. Whatever it reads of a frozen
model (teacher, reference, the student that sampled) is formed in it. The dense form has the log-probabilities of all
states at once and leaves gradients to autograd; what is made of a few numbers a state is one code on both sides.
"""

import argparse
import math
import multiprocessing
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from measuring import page_faults, peak_bytes, print_header, print_row, return_freed_blocks, reuse_heap, seconds
from torch import Tensor

from distill.losses.divergences import divergence_loss
from distill.losses.guidance import Guidance, guided_advantages, reverse_kl_advantages, top_reverse_kl
from distill.losses.log_probs import bucket_log_probs, token_log_probs, top_log_probs
from distill.losses.policy_gradient import Surrogate, group_advantages, on_policy_loss
from distill.losses.preference import (
    advantage_loss,
    bucket_entropy,
    bucket_of_tokens,
    bucket_values,
    dpo_rewards,
    pair_kl,
    preference_loss,
    released_rewards,
    shaping_sums,
    soft_values,
)
from distill.losses.states import States

LENGTHS, GROUP = (3, 5, 5, 3, 3, 5, 5, 3), 4
"""Responses' shares of the states, chosen and rejected in turn; answers to a prompt."""
LOGIT_STD, TEACHER_NOISE, DRIFT = 4.0, 0.3, 0.1
CLIP, ENTROPY, TOP_K, BASELINE_K, BUCKETS, BETA = 0.2, 0.001, 100, 1024, 50, 0.1
FEW_STATES = 32
COLUMNS = ("vocabulary", "states", "width", "loss", "measure", "side")


@dataclass(frozen=True)
class Shape:
    """`states`: a multiple of 32."""

    vocabulary: int
    width: int
    states: int


SHAPES = {"small": Shape(151_936, 128, 512), "toy": Shape(300, 16, 64)}


@dataclass(frozen=True)
class Case:
    """States of the models at the tokens of responses, end to end, and what sampling left there.

    `models`: student, old (the student without gradient), teacher and reference. `drawn`: tokens of the teacher.
    `old_log_probs`: of the tokens, when they were sampled, a little before.
    """

    models: dict[str, States]
    tokens: Tensor
    drawn: Tensor
    lengths: Tensor
    old_log_probs: Tensor
    advantages: Tensor

    @property
    def leaves(self) -> tuple[Tensor, Tensor]:
        """What gradients are formed on."""
        return self.models["student"].hidden, self.models["student"].weight


def make_case(shape: Shape, dtype: torch.dtype = torch.float32) -> Case:
    """Returns random states; the other models' are the student's with some noise."""
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype)

    hidden, weight = normal(shape.states, shape.width), normal(shape.vocabulary, shape.width)
    old = States(hidden, weight.mul_(LOGIT_STD / shape.width**0.5), shape.vocabulary)
    others = {
        name: replace(old, hidden=hidden + TEACHER_NOISE * normal(*hidden.shape)) for name in ("teacher", "reference")
    }

    def draw(states: States) -> Tensor:
        parts = (states[rows].logits().softmax(-1) for rows in states.chunks())
        return torch.cat([part.multinomial(1, generator=generator).squeeze(1) for part in parts])

    tokens, drawn = draw(old), draw(others["teacher"])
    lengths = torch.tensor(LENGTHS) * (shape.states // sum(LENGTHS))
    rewards = torch.rand(len(lengths), generator=generator, dtype=torch.float64).to(dtype)
    advantages = group_advantages(rewards, torch.arange(len(lengths)) // GROUP).repeat_interleave(lengths)
    student = replace(old, hidden=hidden.clone().requires_grad_(), weight=weight.detach().requires_grad_())
    models = {"student": student, "old": old, **others}
    return Case(models, tokens, drawn, lengths, token_log_probs(old, tokens) + DRIFT * normal(shape.states), advantages)


class Chunked:
    """The package's functions on one case."""

    def __init__(self, case: Case):
        self.case = case

    def log_probs(self, model: str, tokens: Tensor) -> Tensor:
        """Returns log-probabilities of tokens, as they are shaped."""
        return token_log_probs(self.case.models[model], tokens)

    def top(self, model: str, k: int) -> tuple[Tensor, Tensor]:
        """Returns the log-probabilities and ids of the k likeliest tokens, [N, k]."""
        return top_log_probs(self.case.models[model], k)

    def top_reverse_kl(self, k: int) -> Tensor:
        """Returns KL(q_old || p) on q_old's k likeliest tokens, [N]."""
        return top_reverse_kl(self.case.models["old"], self.case.models["teacher"], k)

    def values(self, exponent: float) -> Tensor:
        """Returns the teacher's soft values, [N]."""
        return soft_values(self.case.models["teacher"], exponent)

    def buckets(self, model: str, ids: Tensor) -> Tensor:
        """Returns log-probabilities of named tokens and of the rest, [N, k + 1]."""
        return bucket_log_probs(self.case.models[model], ids)

    def divergence(self, name: str, weight: float | None) -> Tensor:
        """Returns a divergence's sum over states."""
        return divergence_loss(self.case.models["student"], self.case.models["teacher"], name, weight).total

    def policy(self, surrogate: Surrogate | None, guidance: Guidance | None, whole_teacher: bool) -> Tensor:
        """Returns the sum of a policy gradient, an entropy bonus and what a teacher adds."""
        teacher = self.case.models["teacher"] if whole_teacher else None
        return on_policy_loss(
            self.case.models["student"], self.case.tokens, surrogate, guidance, ENTROPY, teacher
        ).total

    def pair_kl(self) -> list[Tensor]:
        """Returns KL(p || q) on the chosen and on the rejected side, means over tokens."""
        return [terms.mean for terms in pair_kl(*map(self.case.models.get, ("student", "teacher")), self.case.lengths)]

    def advantage(self) -> Tensor:
        """Returns ADPA's sum over states."""
        return advantage_loss(*map(self.case.models.get, ("student", "teacher", "reference"))).total


class Dense:
    """The same by the definitions, on the log-probabilities of all states, which a model has once an update."""

    def __init__(self, case: Case):
        self.case, self._whole = case, {}

    def _all(self, model: str) -> Tensor:
        if model == "old":
            return self._all("student").detach()
        if model not in self._whole:
            self._whole[model] = self.case.models[model].logits().log_softmax(-1)
        return self._whole[model]

    def log_probs(self, model: str, tokens: Tensor) -> Tensor:
        return self._all(model).gather(1, tokens.view(len(tokens), -1)).view(tokens.shape)

    def top(self, model: str, k: int) -> tuple[Tensor, Tensor]:
        return self._all(model).topk(min(k, self._all(model).shape[1]))

    def top_reverse_kl(self, k: int) -> Tensor:
        log_q, ids = self.top("old", k)
        return (log_q.exp() * (log_q - self.log_probs("teacher", ids))).sum(-1)

    def values(self, exponent: float) -> Tensor:
        return (exponent * self._all("teacher")).logsumexp(-1)

    def buckets(self, model: str, ids: Tensor) -> Tensor:
        rest = self._all(model).scatter(1, ids, -torch.inf).logsumexp(-1, keepdim=True)
        return torch.cat([self.log_probs(model, ids), rest], 1)

    def divergence(self, name: str, weight: float | None) -> Tensor:
        log_q, log_p = self._all("student"), self._all("teacher")

        def mixed(share: float) -> Tensor:
            return torch.logaddexp(log_p + math.log(share), log_q + math.log(1 - share))

        if name == "jsd":
            log_m = mixed(weight)
            return weight * kl(log_p, log_m) + (1 - weight) * kl(log_q, log_m)
        return {
            "skew_kl": lambda: kl(log_p, mixed(weight)),
            "skew_reverse_kl": lambda: kl(log_q, mixed(1 - weight)),
            "forward_kl": lambda: kl(log_p, log_q),
            "reverse_kl": lambda: kl(log_q, log_p),
            "total_variation": lambda: (log_q.exp() - log_p.exp()).abs().sum() / 2,
        }[name]()

    def policy(self, surrogate: Surrogate | None, guidance: Guidance | None, whole_teacher: bool) -> Tensor:
        log_q, rows = self._all("student"), slice(None)
        total = ENTROPY * (log_q.exp() * log_q).sum()
        if surrogate is not None:
            total = total + surrogate.values(self.log_probs("student", self.case.tokens), rows)[0].sum()
        if guidance is not None:
            values = guidance.values(self.log_probs("student", guidance.tokens), rows)
            total = total + guidance.weight * values.sum()
        return total + kl(log_q, self._all("teacher")) if whole_teacher else total

    def pair_kl(self) -> list[Tensor]:
        log_q, log_p = self._all("student"), self._all("teacher")
        values = (log_p.exp() * (log_p - log_q)).sum(-1).split(self.case.lengths.tolist())
        return [torch.cat(values[side::2]).mean() for side in (0, 1)]

    def advantage(self) -> Tensor:
        return -(self._all("student").exp() * (self._all("teacher") - self._all("reference"))).sum()


def kl(log_one: Tensor, log_other: Tensor) -> Tensor:
    """Returns the sum of KL(one || other) over rows."""
    return (log_one.exp() * (log_one - log_other)).sum()


Side = Chunked | Dense
SIDES = {"ours": Chunked, "dense": Dense}
Loss = Callable[[Side], Tensor]


def policy(
    advantages: Callable[[Side], Tensor] | None = lambda side: side.case.advantages,
    guidance: Callable[[Side], Guidance] | None = None,
    whole_teacher: bool = False,
) -> Loss:
    """Returns a loss of the policy-gradient family; `advantages` None leaves out the policy gradient."""

    def loss(side: Side) -> Tensor:
        surrogate = advantages and Surrogate(side.case.old_log_probs, advantages(side), CLIP)
        return side.policy(surrogate, guidance and guidance(side), whole_teacher)

    return loss


def likeliest(side: Side) -> Tensor:
    """Returns the teacher's likeliest tokens, [N]."""
    return side.top("teacher", 1)[1][:, 0]


def of_sampled(form: str, weight: float) -> Callable[[Side], Guidance]:
    """Returns a guidance term on the sampled tokens."""

    def guidance(side: Side) -> Guidance:
        log_p = side.log_probs("teacher", side.case.tokens)
        return Guidance(form, side.case.tokens[:, None], log_p[:, None], weight)

    return guidance


def on_top_tokens(side: Side) -> Guidance:
    """Returns the reverse term on the likeliest tokens of the student that sampled."""
    ids = side.top("old", TOP_K)[1]
    return Guidance("reverse", ids, side.log_probs("teacher", ids), 1.0)


def reverse_kl_policy(centred: bool) -> Loss:
    """Returns RKL, with or without its baseline."""

    def advantages(side: Side) -> Tensor:
        baseline = side.top_reverse_kl(BASELINE_K) if centred else None
        return reverse_kl_advantages(side.case.old_log_probs, side.log_probs("teacher", side.case.tokens), baseline)

    return policy(advantages)


def dpo(side: Side, discount: float | None = None) -> Tensor:
    """Returns DPO, with a discount that of shaped rewards."""
    log_q, log_r = (side.log_probs(model, side.case.tokens) for model in ("student", "reference"))
    offsets = None if discount is None else shaping_sums(side.values(0.7), side.case.lengths, discount)
    return preference_loss(dpo_rewards(log_q, log_r, side.case.lengths, BETA, offsets)).total


def released(values: Callable[[Tensor, Tensor], Tensor], side: Side) -> Tensor:
    """Returns TVKD as released; `values` is made of both models' buckets, the student's first."""
    ids = side.top("teacher", BUCKETS)[1]
    log_q, log_p = (side.buckets(model, ids) for model in ("student", "teacher"))
    own = bucket_of_tokens(log_q, ids, side.case.tokens)
    return preference_loss(released_rewards(own, values(log_q, log_p), side.case.lengths)).total


def dckd(side: Side) -> Tensor:
    """Returns DCKD of the weights that its authors took."""
    chosen, rejected = side.pair_kl()
    return 0.1 * chosen + 0.05 * rejected


DIVERGENCES = {"jsd": 0.5, "skew_kl": 0.1, "skew_reverse_kl": 0.1}
DIVERGENCES |= dict.fromkeys(("forward_kl", "reverse_kl", "total_variation"))
LOSSES: dict[str, Loss] = {
    **{name: lambda side, own=(name, weight): side.divergence(*own) for name, weight in DIVERGENCES.items()},
    "grpo": policy(),
    "tgpo reg": policy(guidance=lambda side: Guidance.towards(likeliest(side), 0.002)),
    "tgpo mc": policy(guidance=lambda side: Guidance.towards(side.case.drawn, 0.002)),
    "tgpo fwd_topk": policy(guidance=lambda side: Guidance("forward", *side.top("teacher", TOP_K)[::-1], 0.002)),
    "tgpo adv": policy(
        lambda side: guided_advantages(side.case.advantages, side.log_probs("old", likeliest(side)), 0.02)
    ),
    "rkl sampled": reverse_kl_policy(centred=False),
    "rkl centred": reverse_kl_policy(centred=True),
    "rkl full": policy(None, whole_teacher=True),
    **{f"rkl {form}": policy(None, of_sampled(form, 1.0)) for form in ("k1", "k2", "k3")},
    "rkl dist": policy(None, on_top_tokens),
    "kdrl": policy(guidance=of_sampled("k2", 0.002)),
    "dpo": dpo,
    "tvkd shaping": partial(dpo, discount=0.7),
    "tvkd repo_sum": partial(released, lambda log_q, log_p: bucket_values(log_p, 0.7)),
    "tvkd repo_joint": partial(released, lambda log_q, log_p: bucket_values(log_p, 1.0, log_q, 1.0)),
    "tvkd repo_recipe": partial(released, lambda log_q, log_p: bucket_entropy(log_q)),
    "dckd": dckd,
    "adpa": lambda side: side.advantage(),
}


def update(loss: str, side: str, case: Case) -> list[Tensor]:
    """Returns a loss and its gradients on hidden states and output matrix."""
    total = LOSSES[loss](SIDES[side](case))
    return [total.detach(), *torch.autograd.grad(total, case.leaves)]


def difference(ours: Sequence[Tensor], dense: Sequence[Tensor]) -> float:
    """Returns the largest relative difference of loss and gradients, L2."""
    pairs = zip(ours, dense, strict=True)
    return max(((own.double() - other.double()).norm() / other.double().norm()).item() for own, other in pairs)


class Bench:
    """What one side's process works on, after one update, which loads the libraries' code and fills the heap."""

    def __init__(self, shape: Shape, threads: int, side: str):
        torch.set_num_threads(threads)
        self.side, self.case, self.few = side, make_case(shape), make_case(replace(shape, states=FEW_STATES))
        update(next(iter(LOSSES)), side, self.case)

    def time(self, loss: str) -> tuple[float, int]:
        """Returns the CPU seconds of an update, and the page faults meanwhile."""
        before = page_faults()
        return seconds(lambda: update(loss, self.side, self.case), "cpu"), page_faults() - before

    def memory(self, loss: str) -> tuple[int, list[np.ndarray]]:
        """Returns the peak of an update above its inputs, gradients included, and what it computed."""
        found: list[Tensor] = []
        update(loss, self.side, self.few)
        peak = peak_bytes(lambda: found.extend(update(loss, self.side, self.case)), "cpu")
        return peak, [own.numpy() for own in found]


_bench: Bench


def _begin(*arguments: object) -> None:
    global _bench
    _bench = Bench(*arguments)


def _take(measure: str, loss: str) -> tuple:
    return getattr(_bench, measure)(loss)


@contextmanager
def sides(shape: Shape, threads: int) -> Iterator[Callable[[str, str, str], tuple]]:
    """Starts a process for each side; yields what takes a measure ("time", "memory") of a loss on a side."""
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        processes = {
            side: stack.enter_context(ProcessPoolExecutor(1, spawn, _begin, (shape, threads, side))) for side in SIDES
        }
        yield lambda measure, loss, side: processes[side].submit(_take, measure, loss).result()


def measure_time(shape: Shape, threads: int, losses: Sequence[str], rounds: int) -> None:
    """Prints CPU seconds of both sides, by turns, and the ratios by round."""
    faults = dict.fromkeys(SIDES, 0)
    with sides(shape, threads) as take:
        for loss in losses:
            labels, spent = (shape.vocabulary, shape.states, shape.width, loss, "time"), defaultdict(list)
            for _ in range(rounds):
                for side in SIDES:
                    taken, found = take("time", loss, side)
                    spent[side].append(taken)
                    faults[side] += found
            for side, taken in spent.items():
                print_row((*labels, side), "cpu_seconds", taken)
            ratios = [dense / ours for ours, dense in zip(spent["ours"], spent["dense"], strict=True)]
            print_row((*labels, "dense/ours"), "ratio", ratios)
    found = ", ".join(f"{count / rounds / len(losses):.0f} {side}" for side, count in faults.items())
    print(f"# page faults an update: {found}", flush=True)


def measure_memory(shape: Shape, threads: int, losses: Sequence[str]) -> None:
    """Prints each side's peak in MiB, the ratio, and how far the results are apart."""
    return_freed_blocks()
    with sides(shape, threads) as take:
        for loss in losses:
            labels, peaks, found = (shape.vocabulary, shape.states, shape.width, loss), {}, {}
            for side in SIDES:
                peaks[side], found[side] = take("memory", loss, side)
                print_row((*labels, "peak memory", side), "mib", [peaks[side] / 2**20])
            print_row((*labels, "peak memory", "dense/ours"), "ratio", [peaks["dense"] / peaks["ours"]])
            ours, dense = (list(map(torch.as_tensor, own)) for own in found.values())
            print_row((*labels, "largest difference", "both"), "relative", [difference(ours, dense)])


def main(arguments: list[str]) -> None:
    """Prints the measurements as CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--states", type=int, help="a multiple of 32 (default: those of the shape)")
    parser.add_argument("--losses", choices=LOSSES, nargs="+", default=list(LOSSES), help="default: all")
    parser.add_argument("--parts", choices=("memory", "time"), nargs="+", default=("memory", "time"))
    parser.add_argument("--rounds", type=int, default=3, help="of the times (default: 3)")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    shape = SHAPES[given.shape]
    shape = replace(shape, states=given.states or shape.states)
    print_header("cpu", given.threads, COLUMNS)
    if "time" in given.parts:  # before the heap is set for memory
        measure_time(shape, given.threads, given.losses, given.rounds)
    if "memory" in given.parts:
        measure_memory(shape, given.threads, given.losses)


if __name__ == "__main__":
    reuse_heap()
    main(sys.argv[1:])
