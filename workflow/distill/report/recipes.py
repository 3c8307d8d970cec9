"""How the systems of a study belong together: one recipe under several training seeds, variants of one recipe."""

from collections.abc import Callable, Mapping
from itertools import combinations, product
from statistics import fmean

from distill.config.slices.reported_system import ReportedSystem

Cell = tuple[str, str, str]
"""System, dataset, decoding."""
Systems = Mapping[str, ReportedSystem]
Scores = Mapping[Cell, Mapping[str, float]]
"""Score by prompt id, of the metric of the cell's set."""


def recipes(systems: Systems) -> dict[str, list[str]]:
    """Returns the systems that differ in their training seed alone, under the name of the first."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, system in systems.items():
        groups.setdefault((system.student, system.run), []).append(name)
    return {names[0]: names for names in groups.values()}


def pooled(scores: Scores, systems: Systems) -> Scores:
    """Returns the scores by recipe: each prompt's mean over the training seeds."""
    pool = {}
    for name, members in recipes(systems).items():
        for dataset, decoding in {cell[1:] for cell in scores if cell[0] == name}:
            of_members = [scores[member, dataset, decoding] for member in members]
            pool[name, dataset, decoding] = {
                prompt: fmean(own[prompt] for own in of_members) for prompt in of_members[0]
            }
    return pool


def variants(systems: Systems, name: str, *keys: str) -> list[str]:
    """Returns the bd systems that differ from one in these keys of `bellman` at most, itself included.

    Student, training seed and the optimiser's recipe are the same, too.
    """

    def rest(system: ReportedSystem) -> tuple:
        bellman = {key: value for key, value in system.options["bellman"].items() if key not in keys}
        return system.student, system.seed, system.options | {"bellman": bellman}, system.training

    own = rest(systems[name])
    return [other for other, system in systems.items() if system.method == "bd" and rest(system) == own]


def comparison_families(systems: Systems) -> dict[tuple[str, int | None], list[tuple[str, str]]]:
    """Returns the pairs (system, control) of each student and training seed, which are tested together.

    Each system meets each control, of two controls the later the earlier. Teachers meet those of every student's first
    training seed.
    """
    groups: dict[tuple[str, int | None], list[str]] = {}
    for name, system in systems.items():
        if system.student:
            groups.setdefault((system.student, system.seed), []).append(name)
    first: dict[str, int | None] = {}
    families = {}
    for (student, seed), names in groups.items():
        if first.setdefault(student, seed) == seed:
            names = [*(name for name, system in systems.items() if not system.student), *names]
        controls = [name for name in names if systems[name].is_control]
        families[student, seed] = [
            (name, control)
            for name, control in product(names, controls)
            if name not in controls or controls.index(control) < controls.index(name)
        ]
    return families


def all_pairs(systems: Systems) -> dict[str, list[tuple[str, str]]]:
    """Returns, by student, every pair of its recipes and of the teachers; of two, the later one stands first."""
    names = recipes(systems)
    teachers = [name for name in names if not systems[name].student]
    own: dict[str, list[str]] = {}
    for name in names:
        if name not in teachers:
            own.setdefault(systems[name].student, [*teachers]).append(name)
    return {student: [pair[::-1] for pair in combinations(group, 2)] for student, group in own.items()}


def beside(systems: Systems, name: str, is_wanted: Callable[[ReportedSystem], bool]) -> str | None:
    """Returns the first system of the same student that is wanted; None if there is none."""
    student = systems[name].student
    return next((other for other, system in systems.items() if system.student == student and is_wanted(system)), None)
