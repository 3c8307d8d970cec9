"""Where the forms of Bellman Distill pull a student: exact optima on small random trees, with the losses that train.

    .venv/bin/python benchmarks/tabular.py docs/studies/tabular

A response is a path of a tree. Every transition enters the loss as often as the teacher takes it, so there is no
sampling noise; LBFGS goes on until the objective stands still, so what is left is the objective itself. The student is
a table of free logits, or a linear map of random features of each state, so that states share parameters as in a
network.
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from distill.losses.candidate_sets import CandidateSets, top_p_sets
from distill.methods.bd.reference import bellman_transitions
from distill.methods.bd.section import Bellman
from distill.methods.bd.trajectories import Trajectories
from distill.pages.figures import BLUE, GREY, ORANGE, SERIES, WIDTH, style

EOS = 0
P = 0.8
TREES = 8
SPREAD = 4.0
"""Standard deviation of the teacher's logits."""
WIDTHS = {"free": None, "shared": 64}
"""Students: features of a state (None: a parameter for each state and token)."""
NOISE = 1.0
"""Standard deviation of what the start's logits have beside the teacher's; all forms are run from here."""
NOISES = (0.0, 0.5, NOISE, 1.5, 2.0)

FORMS: dict[str, tuple[float, dict[str, Any]]] = {
    "printed": (P, {}),
    "printed, alpha 1": (P, {"alpha": 1.0}),
    "printed, alpha 5": (P, {"alpha": 5.0}),
    "centred": (P, {"chi2": "centred"}),
    "no chi-square": (P, {"chi2": "none"}),
    "remainder, printed": (P, {"remainder": True, "chi2": "printed"}),
    "remainder, printed, alpha 1": (P, {"remainder": True, "chi2": "printed", "alpha": 1.0}),
    "remainder, centred": (P, {"remainder": True, "chi2": "centred"}),
    "remainder, centred, alpha 5": (P, {"remainder": True, "chi2": "centred", "alpha": 5.0}),
    "remainder, no chi-square": (P, {"remainder": True, "chi2": "none"}),
    "p 1, printed": (1.0, {}),
    "p 1, printed, no shift": (1.0, {"q_shift": "none", "q_min": None}),
    "p 1, no chi-square": (1.0, {"chi2": "none"}),
}
"""p and options of each form; what is not named is as printed (alpha 0.1, largest logit taken off, floor -10)."""
FOLLOWED = ("printed", "printed, alpha 1", "no chi-square", "remainder, centred", "remainder, no chi-square")
"""Forms that are run from every start."""


@dataclass(frozen=True)
class Forest:
    """A teacher on trees of responses, one a prompt; a response ends with EOS or at the last level, whatever its token.

    `probs`: teacher, [states, vocab], the roots first. `occupancy`: how often a response passes, [states].
    `transitions`: every token of every state as a response of one token, [states x vocab].
    `rows`: the states before and after each, [2 x states x vocab]; after the end, which no loss reads, stands state 0.
    `weights`: how often a response of the teacher takes each, [states x vocab].
    """

    probs: Tensor
    occupancy: Tensor
    transitions: Trajectories
    rows: Tensor
    weights: Tensor

    def sets(self, p: float) -> CandidateSets | None:
        """Returns the teacher's sets of all rows; None at p = 1, where every token is in."""
        return None if p == 1 else top_p_sets(self.probs[self.rows], p)


def random_forest(trees: int = TREES, vocab: int = 5, depth: int = 3) -> Forest:
    """Returns trees of responses of at most `depth` tokens with a teacher whose logits are normal."""
    levels = [trees * (vocab - 1) ** level for level in range(depth)]
    states, goes_on = sum(levels), sum(levels[:-1])
    after = torch.zeros(states, vocab, dtype=torch.long)  # 0: the end
    after[:goes_on, 1:] = torch.arange(trees, states).view(goes_on, vocab - 1)
    generator = torch.Generator().manual_seed(0)
    probs = (SPREAD * torch.randn(states, vocab, generator=generator, dtype=torch.float64)).softmax(-1)
    occupancy = torch.zeros(states, dtype=torch.float64)
    occupancy[:trees] = 1 / trees
    for state in range(goes_on):  # a state comes after the one that leads to it
        occupancy[after[state, 1:]] = occupancy[state] * probs[state, 1:]
    actions = torch.arange(vocab).repeat(states)
    transitions = Trajectories(actions, torch.ones_like(actions), after.flatten() == 0)
    rows = torch.stack([torch.arange(states).repeat_interleave(vocab), after.flatten()], -1).flatten()
    return Forest(probs, occupancy, transitions, rows, (occupancy[:, None] * probs).flatten())


def expected_loss(logits: Tensor, forest: Forest, candidates: CandidateSets | None, options: Bellman) -> Tensor:
    """Returns the mean loss of a kept transition over the teacher's own responses, of logits [states, vocab]."""
    step = bellman_transitions(logits[forest.rows], forest.transitions, candidates, options)
    weights = forest.weights * step.kept
    return (weights * (step.linear + step.chi2)).sum() / weights.sum()


@dataclass(frozen=True)
class Student:
    """Logits that are linear in features of a state: `features` [states, width] times `weight` [width, vocab]."""

    features: Tensor
    weight: Tensor

    @property
    def logits(self) -> Tensor:
        """Its logits, [states, vocab]."""
        return self.features @ self.weight

    def optimum(self, forest: Forest, p: float, options: Bellman, rounds: int) -> "Student":
        """Returns the student at which the objective stands still when it is followed down from this one.

        The largest logit makes kinks, at which LBFGS can halt; each round starts it again.
        """
        weight = self.weight.clone(memory_format=torch.contiguous_format).requires_grad_()
        candidates = forest.sets(p)

        def closure() -> Tensor:
            weight.grad = None
            loss = expected_loss(self.features @ weight, forest, candidates, options)
            loss.backward()
            return loss

        for _ in range(rounds):
            torch.optim.LBFGS(
                [weight],
                max_iter=200,
                history_size=50,
                line_search_fn="strong_wolfe",
                tolerance_grad=1e-9,
                tolerance_change=1e-13,
            ).step(closure)
        return Student(self.features, weight.detach())


def start(forest: Forest, noise: float, width: int | None) -> Student:
    """Returns the student nearest to the teacher's logits plus noise, least squares along the teacher's responses."""
    generator = torch.Generator().manual_seed(1)
    states, vocab = forest.probs.shape
    target = forest.probs.log() + noise * torch.randn(states, vocab, generator=generator, dtype=torch.float64)
    if width is None:
        return Student(torch.eye(states, dtype=torch.float64), target)
    features = torch.randn(states, width, generator=generator, dtype=torch.float64)
    scale = forest.occupancy.sqrt()[:, None]
    return Student(features, torch.linalg.lstsq(scale * features, scale * target).solution)


def measures(teacher: Tensor, logits: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Returns what a student is like beside a teacher, state by state, [states] each.

    `kl` is the KL from teacher to student in nats, the sum of three parts: `kl_mass`, how much mass lies in the
    teacher's set; `kl_inside`, how it is shared there; `kl_outside`, how the rest is shared. `outside` is the mass
    outside the set, `top1` whether the most probable token is the teacher's.

    Args:
        teacher: probabilities, [states, vocab].
        logits: the student's.
        mask: whether a token is in the teacher's set.
    """
    student, log_ratio = logits.softmax(-1), teacher.log() - logits.log_softmax(-1)
    found = {"kl": (teacher * log_ratio).sum(-1), "kl_mass": torch.zeros_like(teacher[:, 0])}
    for side, tokens in (("inside", mask), ("outside", ~mask)):
        mass, own = (teacher * tokens).sum(-1), (student * tokens).sum(-1)
        between = torch.where(mass > 0, torch.special.xlogy(mass, mass / own), 0.0)
        found["kl_mass"] += between
        found[f"kl_{side}"] = (teacher * log_ratio * tokens).sum(-1) - between
    for name, policy in (("", student), ("teacher_", teacher)):
        found[f"{name}outside"] = (policy * ~mask).sum(-1)
        found[f"{name}entropy"] = torch.special.entr(policy).sum(-1)
        found[f"{name}eos"] = policy[:, EOS]
    found["top1"] = (student.argmax(-1) == teacher.argmax(-1)).to(student.dtype)
    return found


def mean_measures(student: Student, forest: Forest) -> dict[str, float]:
    """Returns the means of `measures` over the transitions of the teacher's responses."""
    mask = top_p_sets(forest.probs, P).to_mask(forest.probs.shape[-1])
    weights = forest.occupancy / forest.occupancy.sum()
    found = measures(forest.probs, student.logits, mask)
    return {name: (values * weights).sum().item() for name, values in found.items()}


def study(forest: Forest) -> list[dict[str, Any]]:
    """Returns a row for each student, start and form."""
    rows = []
    for (student, width), noise in product(WIDTHS.items(), NOISES):
        first = start(forest, noise, width)
        for form in ("start", *(FORMS if noise == NOISE else FOLLOWED)):
            end = first if form == "start" else solve(first, forest, form)
            rows.append({"student": student, "noise": noise, "form": form, **mean_measures(end, forest)})
    return rows


def solve(student: Student, forest: Forest, form: str, rounds: int = 4) -> Student:
    """Returns where a form takes a student."""
    p, options = FORMS[form]
    return student.optimum(forest, p, Bellman(**options), rounds)


def draw(rows: Sequence[Mapping[str, str]]) -> Figure:
    """Draws optima.csv: the KL against the start's distance, its parts form by form, and the mass outside the sets."""
    cells = {
        (row["student"], float(row["noise"]), row["form"], name): float(value)
        for row in rows
        for name, value in row.items()
        if name not in ("student", "noise", "form")
    }
    figure = Figure(figsize=(WIDTH, 8.4))
    grid = figure.add_gridspec(2, 2, height_ratios=(2, 3))
    for place, (student, title) in enumerate((("free", "free logits"), ("shared", "states share parameters"))):
        axes = figure.add_subplot(grid[0, place])
        starts = [cells[student, noise, "start", "kl"] for noise in NOISES]
        axes.plot(NOISES, starts, color="black", linestyle="--", label="the start itself")
        for form, (colour, marker) in zip(FOLLOWED, SERIES, strict=False):
            values = [cells[student, noise, form, "kl"] for noise in NOISES]
            axes.plot(NOISES, values, color=colour, marker=marker, markersize=4, label=form)
        axes.set_title(f"{title}: where each form ends")
        axes.set_xlabel("noise of the start's logits (0: the teacher)")
        axes.set_ylabel("KL to the teacher, nats a token")
        axes.set_ylim(bottom=0)
        if place == 0:
            figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)

    names = ["start", *FORMS]
    parts = figure.add_subplot(grid[1, 0])
    left = [0.0] * len(names)
    for key, colour, label in (
        ("kl_mass", ORANGE, "mass in the set"),
        ("kl_inside", BLUE, "shares inside"),
        ("kl_outside", GREY, "shares outside"),
    ):
        values = [cells["free", NOISE, name, key] for name in names]
        parts.barh(range(len(names)), values, 0.7, left, color=colour, label=label)
        left = [before + value for before, value in zip(left, values, strict=True)]
    parts.set_title(f"free logits, noise {NOISE}: parts of the KL")
    parts.set_xlabel("KL to the teacher, nats a token")
    parts.legend(loc="upper right", bbox_to_anchor=(1, 0.43))

    masses = figure.add_subplot(grid[1, 1], sharey=parts)
    for student, (colour, marker) in zip(WIDTHS, SERIES, strict=False):
        label = {"free": "free logits", "shared": "shared parameters"}[student]
        values = [cells[student, NOISE, name, "outside"] for name in names]
        masses.plot(values, range(len(names)), marker, color=colour, label=label)
    teacher = cells["free", NOISE, "start", "teacher_outside"]
    masses.axvline(teacher, color="black", linestyle="--", label="teacher")
    masses.set_title(f"noise {NOISE}: student's mass outside the sets")
    masses.set_xlabel("mean probability outside the teacher's set")
    masses.set_xlim(left=0)
    masses.legend(loc="upper right", bbox_to_anchor=(1, 0.43))
    parts.set_yticks(range(len(names)), names)
    parts.set_ylim(len(names) - 0.5, -0.5)
    masses.tick_params(labelleft=False)
    return figure


def main() -> None:
    """Writes optima.csv and optima.svg."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    found = study(random_forest())
    # Adding 0 turns -0 into 0.
    rows = [{key: f"{round(v, 6) + 0:.6f}" if isinstance(v, float) else v for key, v in row.items()} for row in found]
    with open(folder / "optima.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    with style():
        draw(rows).savefig(folder / "optima.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
