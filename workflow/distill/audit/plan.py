"""`python -m distill plan`: what a study costs before it runs, and the plan beside what a finished one has cost."""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import yaml
from tabulate import tabulate

from distill.audit.archive import Archive, Artifact
from distill.audit.keys import made_jobs
from distill.audit.recompute import as_written
from distill.command import Command
from distill.config.base_models import PrunedModel
from distill.config.judge import resolve_judge
from distill.errors import ConfigError
from distill.planning.calibrate import measure
from distill.planning.formulas import Cost
from distill.planning.rates import measures_path, read_measures, write_measures
from distill.study.costs import Estimates
from distill.study.load import check_config_files, load_study
from distill.study.parts import base_model, run_of, start_of
from distill.study.places import results_folder
from distill.study.stages import STAGES
from distill.study.study import Study
from distill.study.systems import MAIN_STUDENT

SMALL = 10.0
"""CPU seconds below which rules are told together."""


@dataclass(frozen=True)
class RulePlan:
    """All jobs of a rule.

    Attributes:
        rule, jobs: its name, and how many it has.
        gpus: of a job; 0 on the CPU.
        threads: CPU threads of a job.
        cost: sums over jobs; of memory and kept state the largest job's.
    """

    rule: str
    jobs: int
    gpus: int
    threads: int
    cost: Cost


@dataclass(frozen=True)
class Measured:
    """What a rule's jobs have cost, by their records: seconds of CPU (of the GPU where it has one), largest memory."""

    jobs: int
    seconds: float
    memory_mb: float


def _together(costs: Iterable[Cost]) -> Cost:
    """Returns sums, and of memory and kept state the largest."""
    found = list(costs)

    def largest(name: str) -> float:
        return max((getattr(cost, name) for cost in found), default=0.0)

    return Cost(
        seconds=sum(cost.seconds for cost in found),
        host_mb=largest("host_mb"),
        device_mb=largest("device_mb"),
        disk_mb=sum(cost.disk_mb for cost in found),
        state_mb=largest("state_mb"),
        usd=sum(cost.usd for cost in found),
    )


def _is_needed(study: Study, rule: str, role: str = "", **others: str) -> bool:
    """Returns whether the tables ask for a job: the table of stages has jobs that no run reads."""
    needs = {need for name, system in study.systems.items() if system.is_trained for need in run_of(study, name).needs}
    if rule in ("gather_samples", "adopt_samples", "ask_teacher"):
        return bool(needs & {"teacher_samples", "candidate_sets"})
    if rule == "sample_teacher":
        return not study.adopts_samples and _is_needed(study, "gather_samples")
    if rule == "build_candidates":
        return "candidate_sets" in needs
    if rule == "build_values":
        return "teacher_values" in needs
    if rule != "make_base":
        return True
    own = [name for name, system in study.systems.items() if (system.student or "teacher") == role]
    students = [MAIN_STUDENT, *study.further_students]
    is_cut = role == "teacher" and any(isinstance(base_model(study, name), PrunedModel) for name in students)
    return is_cut or any(study.systems[name].given is None and start_of(study, name) is None for name in own)


def plan_study(one: Estimates, made: Container[tuple[str, frozenset[tuple[str, str]]]] = ()) -> list[RulePlan]:
    """Returns the plan of each rule that has something to do.

    Args:
        one: the study's estimates.
        made: rule and wildcards of the jobs that need not run.
    """
    plans = []
    for rule, stage in STAGES.items():
        jobs = [job for job in stage.each(one.study) if _is_needed(one.study, rule, **job)]
        costs = [stage.planned(one, **job) for job in jobs if (rule, frozenset(job.items())) not in made]
        if costs:
            plans.append(RulePlan(rule, len(costs), stage.gpus(one.study), stage.threads(one.study), _together(costs)))
    return plans


def measured_of(archive: Archive, is_gpu: Iterable[str] = ()) -> dict[str, Measured]:
    """Returns what each rule has cost, by the records of its jobs; of a resumed job a record has the last try.

    Snakemake's own files in benchmarks/ are not read: they look at a job every half minute, and miss its last CPU time.

    Args:
        archive: the results.
        is_gpu: rules whose seconds are those from start to end, and not of CPU.
    """
    found: dict[str, Measured] = {}
    for artifact in archive.artifacts.values():
        if not (usage := artifact.details.get("usage")):
            continue
        before = found.get(artifact.rule, Measured(0, 0.0, 0.0))
        seconds = _seconds(artifact) if artifact.rule in is_gpu else usage["cpu_seconds"]
        memory = max(before.memory_mb, usage["peak_memory_mib"])
        found[artifact.rule] = Measured(before.jobs + 1, before.seconds + seconds, memory)
    return found


def _seconds(artifact: Artifact) -> float:
    start, end = map(datetime.fromisoformat, (artifact.started, artifact.finished))
    return (end - start).total_seconds()


def too_large(plans: Iterable[RulePlan], device_memory_gb: float | None) -> list[str]:
    """Returns a warning for each rule that needs more than a device has."""
    return [
        f"warning: {plan.rule}: expected to fit {device_memory_gb:g} GB, planned {_gb(plan.cost.device_mb)} GB; "
        "lower micro_batch or max_sequences, raise zero_stage or processes, or turn gradient_checkpointing on"
        for plan in plans
        if device_memory_gb and plan.cost.device_mb * 2**20 > device_memory_gb * 1e9
    ]


def _columns(rows: list[list[str]]) -> list[str]:
    """Returns rows as lines, the first column to the left, the others to the right."""
    sides = ["left", *["right"] * (len(rows[0]) - 1)]
    return tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=sides).splitlines()


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.2f}" if seconds >= 36 else f"{seconds / 3600:.4f}"


def _gb(mb: float) -> str:
    return f"{mb * 2**20 / 1e9:,.1f}" if mb else "-"


def describe(plans: list[RulePlan]) -> list[str]:
    """Returns the plan as lines: a rule a line, the largest first, and the sum."""
    head = ["rule", "jobs", "CPU h", "GPU h", "host GB", "GPU GB", "disk GB", "USD"]

    def row(name: str, jobs: int, cpu: float, gpu: float, cost: Cost) -> list[str]:
        hours = [_hours(seconds) if seconds else "-" for seconds in (cpu, gpu)]
        usd = f"{cost.usd:.2f}" if cost.usd else "-"
        disk = f"{cost.disk_mb * 2**20 / 1e9:,.2f}"
        return [name, str(jobs), *hours, _gb(cost.host_mb), _gb(cost.device_mb), disk, usd]

    rows, ranked = [head], sorted(plans, key=lambda plan: -plan.cost.seconds)
    for plan in ranked:
        seconds = plan.cost.seconds
        rows.append(row(plan.rule, plan.jobs, 0 if plan.gpus else seconds, seconds if plan.gpus else 0, plan.cost))
    whole = _together(plan.cost for plan in plans)
    cpu = sum(plan.cost.seconds for plan in plans if not plan.gpus)
    rows.append(row("all", sum(plan.jobs for plan in plans), cpu, whole.seconds - cpu, whole))
    return _columns(rows)


def compare(plans: list[RulePlan], measured: dict[str, Measured]) -> list[str]:
    """Returns plan beside measured, rule by rule; those below `SMALL` seconds measured are summed."""
    rows = [["rule", "jobs", "planned s", "measured s", "ratio", "planned MB", "measured MB", "ratio"]]

    def row(name: str, jobs: int, seconds: tuple[float, float], memory: tuple[float, float]) -> list[str]:
        ratios = [f"{here / there:.2f}" if there else "-" for here, there in (seconds, memory)]
        return [
            name,
            str(jobs),
            *(f"{own:,.1f}" for own in seconds),
            ratios[0],
            *(f"{own:,.0f}" for own in memory),
            ratios[1],
        ]

    known = [(plan, measured[plan.rule]) for plan in plans if plan.rule in measured]
    shares = {plan.rule: plan.cost.seconds * there.jobs / plan.jobs for plan, there in known}
    large = [pair for pair in known if pair[1].seconds >= SMALL]
    small = [pair for pair in known if pair[1].seconds < SMALL]
    for plan, there in sorted(large, key=lambda pair: -pair[1].seconds):
        seconds, memory = (shares[plan.rule], there.seconds), (plan.cost.host_mb, there.memory_mb)
        rows.append(row(plan.rule, there.jobs, seconds, memory))
    if small:
        seconds = sum(shares[plan.rule] for plan, _ in small), sum(there.seconds for _, there in small)
        memory = max(plan.cost.host_mb for plan, _ in small), max(there.memory_mb for _, there in small)
        rows.append(row(f"{len(small)} below {SMALL:g} s", sum(there.jobs for _, there in small), seconds, memory))
    jobs = sum(there.jobs for _, there in known)
    whole = sum(shares.values()), sum(there.seconds for _, there in known)
    peak = max(plan.cost.host_mb for plan, _ in known), max(there.memory_mb for _, there in known)
    rows.append(row("all", jobs, whole, peak))
    return _columns(rows)


def _read_study(files: list[Path]) -> Study:
    """Returns the study of config files, of which a later one overrides keys of those before, as in Snakemake."""
    for path in files:
        if not path.is_file():
            raise ConfigError(f"--config: expected a config file, found none at {path}; correct the path")
    check_config_files(files)
    whole: dict = {}
    for path in files:
        own = yaml.safe_load(path.read_bytes()) or {}
        if not isinstance(own, dict):
            raise ConfigError(f"{path}: expected keys and values, found {type(own).__name__}; correct the file")
        whole = _merged(whole, own)
    return load_study(whole)


def _merged(base: object, changes: object) -> dict:
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes  # type: ignore[return-value]  # a leaf, whose place in a mapping holds anything
    return {**base, **{key: _merged(base.get(key), value) for key, value in changes.items()}}


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        nargs="+",
        type=Path,
        default=[Path("config.yaml")],
        metavar="FILE",
        help="config files, as for snakemake's --configfile (default: config.yaml)",
    )
    parser.add_argument(
        "--results", type=Path, help="a finished study's results: tell the plan beside what was measured"
    )
    parser.add_argument("--all", action="store_true", help="plan what is made already, too")
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="measure this machine first, in less than a minute, for later plans too",
    )


def _run(options: Namespace) -> int:
    study = _read_study(options.config)
    if options.calibrate:
        families = ("light", "train", "vllm")
        pythons = {name: getattr(study.environments, name).python for name in families}
        print(f"wrote {write_measures(measure(pythons))}", file=sys.stderr)
    found = read_measures()
    one = Estimates(study, found)
    results = results_folder(study)
    made = made_jobs(Archive(results), study) if results.is_dir() and not (options.results or options.all) else set()
    plans = plan_study(one, made)
    judge, judging = resolve_judge(study.judge, os.environ), 0.0
    if judge.kind != "openai":
        judging = sum(plan.cost.usd for plan in plans if plan.rule == "judge_pair")
        plans = [replace(own, cost=replace(own.cost, usd=0.0)) if own.rule == "judge_pair" else own for own in plans]
    print(f"{study.title}: planned with {measures_path() if found else 'the default rates; --calibrate measures them'}")
    if options.results:
        with as_written(options.results):
            measured = measured_of(Archive(options.results), {plan.rule for plan in plans if plan.gpus})
        if not measured:
            raise ConfigError(
                f"--results: expected records with their usage below {options.results}, found none; name the results "
                "of a study"
            )
        print("\n".join(compare(plans, measured)))
    else:
        print("\n".join(describe(plans)))
        if made:
            print(f"left out, since {results} has it: {len(made)} jobs; --all plans them too")
        state = max((plan.cost.state_mb for plan in plans), default=0.0)
        print(f"while a training runs, its two saved states take up to {_gb(state)} GB more of disk")
        if judging and judge.kind == "overlap":
            print(f"judged by overlap; with a key in {judge.api_key_env} it would be {judging:.2f} USD")
    for words in (*one.notes, *too_large(plans, study.device_memory_gb)):
        print(words)
    return 0


COMMAND = Command(
    "plan", "tell what a study costs before it runs, or that beside what it has cost", _add_arguments, _run
)
