"""The table of all stages: what the rules and the audit know of a stage, each fact once."""

import math
import os
from ast import get_docstring, parse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from distill.config.base import Section
from distill.config.base_models import ScratchModel
from distill.config.data import SplitSource
from distill.config.generation import primary_decoding
from distill.config.judge import resolve_judge
from distill.config.preferences import Preferences, WorldPairs
from distill.config.remote import RemoteModel
from distill.config.slices.adopt_model import AdoptModel
from distill.config.slices.adopt_samples import AdoptSamples
from distill.config.slices.ask_teacher import AskTeacher
from distill.config.slices.build_candidates import BuildCandidates
from distill.config.slices.build_values import BuildValues
from distill.config.slices.check_models import CheckModels
from distill.config.slices.draw_figures import DrawFigures
from distill.config.slices.gather_samples import GatherSamples
from distill.config.slices.gather_source import GatherSource
from distill.config.slices.generate_responses import GenerateResponses
from distill.config.slices.judge_pair import JudgePair
from distill.config.slices.make_base import MakeBase
from distill.config.slices.make_pairs import MakePairs
from distill.config.slices.make_tables import MakeTables
from distill.config.slices.make_tokenizer import MakeTokenizer
from distill.config.slices.measure_efficiency import MeasureEfficiency
from distill.config.slices.prepare_evaluation import PrepareEvaluation
from distill.config.slices.published_model import MadeModel
from distill.config.slices.rank_pairs import RankPairs
from distill.config.slices.render_report import RenderReport
from distill.config.slices.render_tables import RenderTables
from distill.config.slices.reported_system import ReportedSystem
from distill.config.slices.sample_teacher import SampleTeacher
from distill.config.slices.score_responses import ScoreResponses
from distill.config.slices.select_checkpoint import SelectCheckpoint
from distill.config.slices.split_data import SplitData
from distill.config.slices.train_run import RolloutEngine, TrainRun
from distill.config.slices.validate_run import ValidateRun
from distill.config.sources import GeneratedSource
from distill.config.teacher import ApiTeacher, TeacherRun
from distill.evaluation.selection import SCORER, selecting_metric
from distill.files import digest_file, digest_value
from distill.methods.registry import method_module, plugin_files
from distill.metrics.registry import metric_module
from distill.planning.formulas import Cost
from distill.rollouts.section import SamplingRun
from distill.sampling.settings import engine_settings
from distill.study import costs
from distill.study.costs import Estimates
from distill.study.parts import (
    base_model,
    is_control,
    judged_pairs,
    longest_sequence,
    measured_systems,
    run_of,
    sources_of,
    start_of,
)
from distill.study.study import Study
from distill.study.systems import MAIN_STUDENT, TEACHER

ROOT = Path(__file__).parents[3]
"""Folder of the repository, which paths of locks start from."""
PUBLISHED = Path(__file__).parents[1] / "report" / "paper"
"""Folder of the paper's numbers."""
TABLES = PUBLISHED.with_name("tables")
"""Folder of the tables, a file each."""
MEMORY_MARGIN, TIME_MARGIN = 1.5, 3.0
"""By what a job asks for more than its plan: a job that lacks memory or time fails, one that asks for more waits."""
METRICS = PUBLISHED.parents[1] / "metrics"
"""Folder of the metrics, a file each."""
TEMPLATE = [PUBLISHED.parents[1] / "pages" / f"page.{kind}" for kind in ("html", "css", "js")]
"""What the report is rendered from besides code."""

Wildcards = dict[str, str]


def _one(study: Study) -> list[Wildcards]:
    return [{}]


def _no_modules(study: Study, **wildcards: str) -> list[str | Path]:
    return []


@dataclass(frozen=True)
class Stage:
    """A rule as the rest of the project knows it.

    Attributes:
        cut: the slice of the config that a job depends on, by study and wildcards.
        each: the wildcards of each of the study's jobs.
        software: the family of the config's `environments` that it runs in.
        memory_mb, minutes: what a job asks for at least.
        cost: what a job is planned to cost, by estimates and wildcards.
        machine: the section whose `device` and `threads` a process of a job has; None for one thread of a CPU.
        processes: processes of a job; each has a device of its own, or those of `sampling.tensor_parallel`.
        nodes: machines of a cluster that its processes are spread over.
        in_pieces: whether its processes share pieces of work (`distill.pieces`), and do not talk to each other.
        alone: whether it measures, so that no other job may run beside it on its machine.
        trains: whether it may train, and show the curves of that.
        asks: whom it may ask over a network; only the process that starts it has the key.
        modules: what the script loads by name, by study and wildcards.
    """

    cut: Callable[..., Section]
    each: Callable[[Study], list[Wildcards]] = _one
    software: Literal["light", "train", "vllm"] = "light"
    memory_mb: int = 2000
    minutes: int = 30
    cost: Callable[..., Cost] = costs.light
    machine: Literal["deepspeed", "sampling"] | None = None
    processes: Callable[[Study], int] = lambda study: 1
    nodes: Callable[[Study], int] = lambda study: 1
    in_pieces: bool = False
    alone: bool = False
    trains: bool = False
    asks: Callable[[Study], RemoteModel | None] = lambda study: None
    modules: Callable[..., list[str | Path]] = _no_modules

    def planned(self, one: Estimates, **wildcards: str) -> Cost:
        """Returns what a job is planned to cost."""
        return one.cost(self.cost, **wildcards)

    def ask_memory_mb(self, one: Estimates, attempt: int, **wildcards: str) -> int:
        """Returns the memory in MB that a job asks for: its plan with a margin, `memory_mb` at least, times its try."""
        return attempt * max(self.memory_mb, math.ceil(MEMORY_MARGIN * self.planned(one, **wildcards).host_mb))

    def ask_minutes(self, one: Estimates, attempt: int, **wildcards: str) -> int:
        """Returns the minutes that a job asks for: its plan with a margin, `minutes` at least, times its try.

        Threads and devices are counted as if they shared the work evenly.
        """
        seconds = TIME_MARGIN * self.planned(one, **wildcards).seconds / self.workers(one.study)
        return attempt * max(self.minutes, math.ceil(seconds / 60))

    def workers(self, study: Study) -> int:
        """Returns what a job's work is shared by: its GPUs, else its CPU threads."""
        return self.gpus(study) or self.threads(study)

    def threads(self, study: Study) -> int:
        """Returns the CPU threads of a job."""
        own = getattr(study, self.machine).threads if self.machine else 1
        return self.processes(study) * own * (1 if self._is_on_gpu(study) else self._width(study))

    def gpus(self, study: Study) -> int:
        """Returns the GPUs of a job."""
        return self.processes(study) * self._width(study) if self._is_on_gpu(study) else 0

    def own_gpus(self, study: Study) -> int:
        """Returns the GPUs that each of several processes sees alone; 0 where each sees all of the job's."""
        is_alone = self.in_pieces and self.processes(study) > 1 and self._is_on_gpu(study)
        return self._width(study) if is_alone else 0

    def _is_on_gpu(self, study: Study) -> bool:
        return self.machine is not None and getattr(study, self.machine).device == "cuda"

    def _width(self, study: Study) -> int:
        """Returns the devices of a process of a job."""
        return study.sampling.tensor_parallel if self.machine == "sampling" else 1


STAGES: dict[str, Stage] = {}


def _stage(**row: Any) -> Callable[[Callable[..., Section]], Callable[..., Section]]:
    """Files a slice as the row of the rule that it is named after."""

    def file(cut: Callable[..., Section]) -> Callable[..., Section]:
        STAGES[cut.__name__.removeprefix("_")] = Stage(cut, **row)
        return cut

    return file


def _sources(study: Study) -> list[Wildcards]:
    return [{"source": name} for name in sources_of(study)]


def _roles(study: Study) -> list[Wildcards]:
    return [{"role": role} for role in ("teacher", MAIN_STUDENT, *study.further_students)]


def _checked_roles(study: Study) -> list[Wildcards]:
    return [job for job in _roles(study) if isinstance(study.teacher, TeacherRun) or job["role"] != "teacher"]


def _shards(study: Study) -> list[Wildcards]:
    return [{"shard": str(shard)} for shard in range(study.teacher_samples.shards)]


def _systems(study: Study) -> list[Wildcards]:
    return [{"system": name} for name in study.systems]


def _trained(study: Study) -> list[Wildcards]:
    return [{"system": name} for name, system in study.systems.items() if system.is_trained]


def _given(study: Study) -> list[Wildcards]:
    return [{"system": name} for name, system in study.systems.items() if not system.is_trained]


def _validated(study: Study) -> list[Wildcards]:
    return [job for job in _trained(study) if selecting_metric(run_of(study, job["system"]).select)]


def _preferences(study: Study) -> Preferences:
    """Returns the section, of a study whose jobs need it."""
    assert study.preferences is not None
    return study.preferences


def _with_preferences(study: Study) -> list[Wildcards]:
    return [{}] if study.preferences else []


def _ranked(study: Study) -> list[Wildcards]:
    return _systems(study) if study.preferences else []


def _pairs(study: Study) -> list[Wildcards]:
    return [{"first": first, "second": second} for first, second in judged_pairs(study)]


def _base_processes(study: Study) -> int:
    """Only a fresh model is trained here; a given one is converted by one process."""
    return study.deepspeed.processes if isinstance(study.models.teacher, ScratchModel) else 1


_GENERATING: dict[str, Any] = {
    "software": "vllm",
    "memory_mb": 6000,
    "machine": "sampling",
    "processes": lambda study: study.sampling.processes,
    "in_pieces": True,
}
_SCORING: dict[str, Any] = {"software": "train", "memory_mb": 8000, "machine": "deepspeed"}
_TEACHER_SCORING = _SCORING | {
    "minutes": 240,
    "processes": lambda study: study.deepspeed.processes_a_node,
    "in_pieces": True,
}


def _method(study: Study, system: str) -> list[str | Path]:
    """Returns the module of a run's method, or the file of one outside the package, and what the run names itself."""
    run = run_of(study, system)
    return [plugin_files(study.plugins).get(run.method, method_module(run.method)), *run.modules]


def _published(study: Study, system: str) -> dict[str, Any]:
    """Returns what the slices of a published model share.

    Its answers are as long as those that students learn from. Those of the evaluation may differ, but a change of them
    would reach every training that starts from a published model.
    """
    asked = {"wrapper": study.data.wrapper, "max_new_tokens": study.teacher_samples.max_new_tokens}
    return {"name": system, **asked, "made": _made(study, system)}


def _made(study: Study, system: str) -> MadeModel:
    """Returns what a system's card tells: its run, and the bases and data behind it and its starts."""
    own, outside = study.systems[system], {"kind": "outside"}
    role = own.student or TEACHER
    needs, behind, first = set[str](), own.is_trained, own
    while first.is_trained:
        needs |= run_of(study, first.name).needs
        if (start := start_of(study, first.name)) is None:
            break
        first = study.systems[start]
    bases = {role: outside if first.given else base_model(study, role).model_dump(mode="json")}
    learns = needs - {"plain_text", "prompts", "preference_pairs"}
    is_cut = bases[role]["kind"] == "pruned"
    if role != TEACHER and (is_cut or learns and isinstance(study.teacher, TeacherRun)):
        is_given = study.external.teacher and not is_cut
        bases[TEACHER] = outside if is_given else study.models.teacher.model_dump(mode="json")
    sources: dict[str, dict[str, Any]] = {}
    if behind:
        sources["instructions"] = study.data.instructions.model_dump(mode="json")
        if study.data.plain_text and ("plain_text" in needs or any(b["kind"] == "scratch" for b in bases.values())):
            sources["plain text"] = study.data.plain_text.model_dump(mode="json")
        if study.preferences and needs & {"preference_pairs", "preference_teacher", "teacher_values"}:
            sources["preference pairs"] = study.preferences.pairs.model_dump(mode="json")
        if study.adopts_samples and "teacher_samples" in needs:
            asked = _asked_teacher(study)
            sources["teacher's samples"] = asked.model_dump(include={"kind", "model"}) if asked else outside
    trained = _train_run(study, system) if behind else None
    return MadeModel(
        role=role,
        run=trained.run if isinstance(trained, TrainRun) else None,
        seed=trained.seed if isinstance(trained, TrainRun) else None,
        sources=sources,
        bases=bases,
    )


def _metrics(study: Study) -> dict[str, str]:
    """Returns the name of each evaluation set's metric."""
    return {name: source.metric for name, source in study.data.evaluation.items()}


def _set_metrics(study: Study, **wildcards: str) -> list[str | Path]:
    """Returns the modules of the evaluation sets' metrics."""
    return [*map(metric_module, sorted({*_metrics(study).values()}))]


def _dev_metric(study: Study, system: str) -> list[str | Path]:
    """Returns the module of the metric by which a run's checkpoint is selected, if one is."""
    metric = selecting_metric(run_of(study, system).select)
    return [metric_module(metric)] if metric else []


def _dev_scores(study: Study, system: str) -> list[str | Path]:
    """Returns what scores a run's dev answers, if something does."""
    return [SCORER, *metric] if (metric := _dev_metric(study, system)) else []


def _all_metrics(study: Study, **wildcards: str) -> list[str | Path]:
    """Returns the modules of all metrics that the pages name."""
    dev = {module for name, system in study.systems.items() if system.is_trained for module in _dev_metric(study, name)}
    # Whether a key is set where somebody looks says nothing of the pages.
    judge = [metric_module(study.judge.metric)] if study.judge.kind in ("auto", "overlap") else []
    return sorted({*_set_metrics(study), *dev, *judge}, key=str)


@_stage(each=_sources)
def _gather_source(study: Study, source: str) -> Section:
    return GatherSource(name=source, source=sources_of(study)[source], seed=study.data.world_seed)


@_stage(cost=costs.make_tokenizer)
def _make_tokenizer(study: Study) -> Section:
    teacher = study.models.teacher
    return MakeTokenizer(
        model=None if isinstance(teacher, ScratchModel) else teacher,
        vocabulary_size=study.models.vocabulary_size,
        wrapper=study.data.wrapper,
    )


@_stage(cost=costs.split_data)
def _split_data(study: Study) -> Section:
    data = study.data
    cut = [(name, source.rows) for name, source in data.evaluation.items() if isinstance(source, SplitSource)]
    return SplitData(
        test=cut[0][0] if cut else None,
        test_rows=cut[0][1] if cut else 0,
        dev_rows=data.dev.rows if isinstance(data.dev, SplitSource) else 0,
        train_rows=data.train_rows,
        split_seed=data.split_seed,
        wrapper=data.wrapper,
        max_prompt_tokens=data.max_prompt_tokens,
        max_total_tokens=data.max_total_tokens,
    )


@_stage(each=lambda study: [{"dataset": name} for name in ("dev", *study.data.evaluation)])
def _prepare_evaluation(study: Study, dataset: str) -> Section:
    data = study.data
    source = data.dev if dataset == "dev" else data.evaluation[dataset]
    part = "dev" if dataset == "dev" else "test"
    return PrepareEvaluation(
        name=dataset,
        part={"split": part, "preferences": "prompts"}.get(source.kind),
        leave_out=data.dev.leave_out if dataset == "dev" else [],
        wrapper=data.wrapper,
        max_prompt_tokens=data.max_prompt_tokens,
        max_total_tokens=data.max_total_tokens if dataset == "dev" else None,
    )


@_stage(each=_with_preferences)
def _make_pairs(study: Study) -> Section:
    data, pairs = study.data, _preferences(study).pairs
    return MakePairs(
        pairs=pairs,
        seed=data.world_seed if isinstance(pairs, WorldPairs) else data.split_seed,
        wrapper=data.wrapper,
        max_prompt_tokens=data.max_prompt_tokens,
        max_total_tokens=data.max_total_tokens,
    )


@_stage(
    each=_roles,
    software="train",
    memory_mb=8000,
    minutes=240,
    machine="deepspeed",
    processes=_base_processes,
    nodes=lambda study: study.deepspeed.nodes if _base_processes(study) > 1 else 1,
    trains=True,
    cost=costs.make_base,
)
def _make_base(study: Study, role: str) -> Section:
    return MakeBase(
        role=role,
        model=base_model(study, role),
        vocabulary_size=study.models.vocabulary_size,
        plain_text_tokens=study.data.plain_text_tokens,
        deepspeed=study.deepspeed,
        seed=study.seed,
    )


@_stage(
    each=_trained,
    software="train",
    memory_mb=16000,
    minutes=1440,
    machine="deepspeed",
    processes=lambda study: study.deepspeed.processes,
    nodes=lambda study: study.deepspeed.nodes,
    trains=True,
    modules=_method,
    cost=costs.train_run,
)
def _train_run(study: Study, system: str) -> Section:
    own, section = study.systems[system], run_of(study, system)
    plugins = {Path(plugin).stem: plugin for plugin in study.plugins}
    copied = getattr(section, "updates_of", None)
    if copied and own.beside(copied) in study.systems:
        copied = own.beside(copied)
    return TrainRun(
        name=own.recipe,
        plugin=plugins.get(section.method),
        # How a checkpoint is chosen later does not change the training.
        run=section.model_dump(mode="json", exclude={"select"}),
        updates_of=run_of(study, copied).training.length if copied else None,
        labelled_rows=study.data.labelled_rows if own.student else None,
        prompts=study.teacher_samples.prompts if "prompts" in section.needs else None,
        wrapper=study.data.wrapper,
        plain_text_tokens=study.data.plain_text_tokens,
        deepspeed=study.deepspeed,
        rollouts=_rollout_engine(study, section) if isinstance(section, SamplingRun) else None,
        seed=study.seed if own.seed is None else own.seed,
    )


def _rollout_engine(study: Study, section: SamplingRun) -> RolloutEngine | None:
    """Returns the engine that samples for a run outside its process, None where it samples itself."""
    if section.rollout_engine == "training":
        return None
    software = study.environments.vllm
    return RolloutEngine(
        python=software.python,
        lock=digest_file(ROOT / software.lock)[:16],
        # It has the device of the one training process that it belongs to.
        settings=asdict(engine_settings(study.sampling, study.data.max_prompt_tokens + section.max_new_tokens))
        | {"tensor_parallel": 1},
    )


@_stage(each=_shards, **_GENERATING, minutes=720, cost=costs.sample_teacher)
def _sample_teacher(study: Study, shard: str) -> Section:
    return SampleTeacher(
        shard=int(shard),
        **study.teacher_samples.model_dump(),
        wrapper=study.data.wrapper,
        sampling=study.sampling,
        seed=study.seed,
    )


@_stage(each=_shards, **_TEACHER_SCORING, cost=costs.build_candidates)
def _build_candidates(study: Study, shard: str) -> Section:
    return BuildCandidates(
        shard=int(shard),
        shards=study.teacher_samples.shards,
        **study.candidates.model_dump(),
        deepspeed=study.deepspeed,
    )


@_stage(each=_with_preferences, **_TEACHER_SCORING, cost=costs.build_values)
def _build_values(study: Study) -> Section:
    return BuildValues(**_preferences(study).values.model_dump(), wrapper=study.data.wrapper, deepspeed=study.deepspeed)


@_stage(each=_validated, **_GENERATING, minutes=480, cost=costs.validate_run)
def _validate_run(study: Study, system: str) -> Section:
    generation = study.generation
    return ValidateRun(
        decoding=generation.decodings[primary_decoding(study.generation.decodings)],
        max_new_tokens=generation.max_new_tokens,
        dev_rows=generation.dev_rows,
        dev_seed=generation.dev_seed,
        wrapper=study.data.wrapper,
        sampling=study.sampling,
    )


@_stage(each=_trained, modules=_dev_scores, cost=costs.select_checkpoint)
def _select_checkpoint(study: Study, system: str) -> Section:
    return SelectCheckpoint(rule=run_of(study, system).select, **_published(study, system))


@_stage(each=_systems, **_GENERATING, minutes=720, cost=costs.generate_responses)
def _generate_responses(study: Study, system: str) -> Section:
    return GenerateResponses(
        primary=primary_decoding(study.generation.decodings),
        decodings=study.generation.decodings,
        seeds=study.generation.seeds,
        max_new_tokens={
            name: source.max_new_tokens or study.generation.max_new_tokens
            for name, source in study.data.evaluation.items()
        },
        wrapper=study.data.wrapper,
        sampling=study.sampling,
    )


@_stage(
    each=lambda study: [{}] if measured_systems(study) else [],
    software="vllm",
    memory_mb=6000,
    minutes=240,
    machine="sampling",
    alone=True,
    cost=costs.measure_efficiency,
)
def _measure_efficiency(study: Study) -> Section:
    generation, (first, *_) = study.generation, study.data.evaluation.values()
    return MeasureEfficiency(
        prompts=study.efficiency.prompts,
        decoding=generation.decodings[primary_decoding(generation.decodings)],
        seed=generation.seeds[0],
        max_new_tokens=first.max_new_tokens or generation.max_new_tokens,
        wrapper=study.data.wrapper,
        sampling=study.sampling,
    )


@_stage(each=_systems, modules=_set_metrics, cost=costs.score_responses)
def _score_responses(study: Study, system: str) -> Section:
    return ScoreResponses(system=system, metrics=_metrics(study))


@_stage(each=_ranked, **_SCORING, minutes=120, cost=costs.rank_pairs)
def _rank_pairs(study: Study, system: str) -> Section:
    return RankPairs(batch=_preferences(study).values.batch, wrapper=study.data.wrapper, deepspeed=study.deepspeed)


@_stage(each=_checked_roles)
def _check_models(study: Study, role: str) -> Section:
    tokens, key = longest_sequence(study)
    return CheckModels(tokens=tokens, key=key)


@_stage(each=_given)
def _adopt_model(study: Study, system: str) -> Section:
    return AdoptModel(**_published(study, system))


def _asked_teacher(study: Study) -> ApiTeacher | None:
    return study.teacher if isinstance(study.teacher, ApiTeacher) else None


@_stage(
    each=lambda study: [{}] if _asked_teacher(study) else [],
    minutes=720,
    asks=_asked_teacher,
    cost=costs.ask_teacher,
)
def _ask_teacher(study: Study) -> Section:
    teacher = _asked_teacher(study)
    assert teacher, "no other teacher is asked"
    return AskTeacher(teacher=teacher, **study.teacher_samples.model_dump(exclude={"shards"}), seed=study.seed)


@_stage(each=lambda study: [{}] if study.adopts_samples else [])
def _adopt_samples(study: Study) -> Section:
    return AdoptSamples(
        wrapper=study.data.wrapper,
        prompt_tokens=study.data.max_prompt_tokens,
        response_tokens=study.teacher_samples.max_new_tokens,
        held_out_prompts=study.teacher_samples.held_out_prompts,
    )


@_stage(each=lambda study: [] if study.adopts_samples else [{}])
def _gather_samples(study: Study) -> Section:
    return GatherSamples()


def _judge_metric(study: Study, **wildcards: str) -> list[str | Path]:
    """Returns the module of the metric by which the judge without a key decides, if it judges."""
    return [metric_module(study.judge.metric)] if resolve_judge(study.judge, os.environ).kind == "overlap" else []


@_stage(each=_pairs, minutes=240, asks=lambda study: study.judge, modules=_judge_metric, cost=costs.judge_pair)
def _judge_pair(study: Study, first: str, second: str) -> Section:
    # Which other pairs are judged does not change this one.
    judge = resolve_judge(study.judge, os.environ).model_copy(update={"pairs": []})
    return JudgePair(judge=judge, pair=(first, second))


@_stage(memory_mb=4000, minutes=60, cost=costs.make_tables)
def _make_tables(study: Study) -> Section:
    systems = {}
    for name, system in study.systems.items():
        run = run_of(study, name)
        systems[name] = ReportedSystem(
            student=system.student,
            run=system.run,
            method=run.method,
            is_control=is_control(study, name),
            seed=system.seed,
            options=run.model_dump(mode="json", exclude={"training"}),
            training=run.training if system.is_trained else None,
        )
    return MakeTables(
        systems=systems,
        datasets=list(study.data.evaluation),
        metrics=_metrics(study),
        decodings=study.generation.decodings,
        processes=study.deepspeed.processes,
        paper=study.paper,
        # Data, so in no digest of code.
        published=digest_value({path.name: digest_file(path) for path in PUBLISHED.glob("*.csv")})[:16],
        seed=study.seed,
        labels=study.report.labels,
        price_per_hour=study.efficiency.price_per_hour,
        currency=study.efficiency.currency,
    )


def _worded(study: Study) -> list[Path]:
    """Returns the files whose docstrings the pages show."""
    names = (str(module).rpartition(".")[2] for module in _all_metrics(study))
    return [*sorted(TABLES.glob("*.py")), *(METRICS / f"{name}.py" for name in names)]


@cache
def _docstring(path: Path) -> str | None:
    """Returns the docstring of a file of this package, parsed once: two rules show it, and verify asks often."""
    return get_docstring(parse(path.read_bytes()))


@_stage(modules=_all_metrics)
def _render_tables(study: Study) -> Section:
    embedded = isinstance(study.data.instructions, GeneratedSource)
    return RenderTables(
        title=study.title,
        # Docstrings, so in no digest of code.
        words=digest_value([_docstring(path) for path in _worded(study)])[:16],
        embedded=embedded,
        decodings=study.generation.decodings,
        deepspeed=study.deepspeed,
        sampling=study.sampling,
    )


@_stage(modules=_all_metrics, cost=costs.draw_figures)
def _draw_figures(study: Study) -> Section:
    return DrawFigures(
        recipes={name: system.recipe for name, system in study.systems.items()},
        datasets=list(study.data.evaluation),
        decodings=list(study.generation.decodings),
        seed=study.seed,
        labels=study.report.labels,
        width=study.report.figure_width,
    )


@_stage(modules=_all_metrics)
def _render_report(study: Study) -> Section:
    folders = {}
    validated = {job["system"] for job in _validated(study)}
    for name, system in study.systems.items():
        kinds = ["training"] * system.is_trained + ["validation"] * (name in validated)
        kinds += ["models", "generations", "scores", *(["rankings"] if study.preferences else [])]
        folders[name] = [f"{kind}/{name}" for kind in kinds]
    for first, second in judged_pairs(study):
        folders[first].append(f"verdicts/{first}-{second}")
    return RenderReport(
        **_render_tables(study).model_dump(),
        recipes={name: system.recipe for name, system in study.systems.items()},
        prompts=study.report.prompts,
        folders=folders,
        # What a plan is warned by, and where artifacts are shared, changes no page.
        config=study.model_dump(mode="json", exclude={"device_memory_gb", "store", "tracker"}),
        # No modules, so in no digest of code.
        template=digest_value({path.name: digest_file(path) for path in TEMPLATE})[:16],
    )


def slice_of(study: Study, rule: str, **wildcards: str) -> Section:
    """Returns the slice of the config that a rule's job depends on.

    Args:
        study: the checked config.
        rule: the rule's name.
        wildcards: the job's wildcards by name.
    """
    return STAGES[rule].cut(study, **wildcards)


def names_of(study: Study, wildcard: str) -> list[str]:
    """Returns all that a wildcard may stand for, whatever the rule."""
    jobs = (job for stage in STAGES.values() for job in stage.each(study))
    return list(dict.fromkeys(job[wildcard] for job in jobs if wildcard in job))
