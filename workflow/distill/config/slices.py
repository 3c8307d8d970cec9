"""Cuts a study's config into the slice of each stage."""

import os
from collections.abc import Callable
from pathlib import Path

from distill.config.base import Section
from distill.config.data import SplitSource, WorldSource
from distill.config.judge import resolve_judge
from distill.config.methods import method_section
from distill.config.models import ScratchModel, StudentModel
from distill.config.runs import Run
from distill.config.stages.data import GatherSource, MakeTokenizer, PrepareEvaluation, SplitData
from distill.config.stages.evaluate import GenerateResponses, ScoreResponses
from distill.config.stages.judge import JudgePair
from distill.config.stages.models import AdoptModel, CheckModels, MakeBase
from distill.config.stages.report import DrawFigures, MakeTables, RenderReport, RenderTables, ReportedSystem
from distill.config.stages.student import SelectCheckpoint, TrainRun, ValidateRun
from distill.config.stages.teacher import AdoptSamples, BuildCandidates, GatherSamples, SampleTeacher
from distill.config.study import Study
from distill.config.systems import MAIN_STUDENT, TEACHER
from distill.files import digest_file, digest_value

PUBLISHED = Path(__file__).parents[1] / "report" / "paper"
"""Folder of the paper's numbers."""
TEMPLATE = [PUBLISHED.with_name(f"page.{kind}") for kind in ("html", "css", "js")]
"""What the report is rendered from besides code."""


def run_of(study: Study, name: str) -> Run:
    """Returns the section of a system's run; the teacher and phase 1 are runs of method sft."""
    system = study.systems[name]
    owner = study.further_students.get(system.student, study)
    if system.run in ("teacher", "phase1"):
        section = study.teacher if system.run == "teacher" else owner.phase1
        return method_section("sft")(method="sft", start="base", **dict(section))
    return owner.runs[system.run]


def is_control(study: Study, name: str) -> bool:
    """Returns whether the other systems are judged against a system and compared with it: phase 1, which is a run of
    SFT, and every run whose method is a control."""
    return name != TEACHER.name and run_of(study, name).is_control


def base_model(study: Study, role: str) -> StudentModel:
    """Returns the base model of the teacher or of a student."""
    return study.further_students[role].model if role in study.further_students else getattr(study.models, role)


def primary_decoding(study: Study) -> str:
    """Returns the name of the decoding that validates checkpoints and heads the tables: the first one."""
    return next(iter(study.generation.decodings))


def judged_pairs(study: Study) -> list[tuple[str, str]]:
    """Returns the pairs to judge; by default each of the main student's runs that is no control with each control."""
    if study.judge.pairs:
        return [tuple(pair) for pair in study.judge.pairs]
    own = [name for name, system in study.systems.items() if system.student == MAIN_STUDENT and system.is_first_seed]
    controls = [name for name in own if is_control(study, name)]
    return [(name, control) for name in own if name not in controls for control in controls]


def sources_of(study: Study) -> dict[str, object]:
    """Returns the sources that are gathered from outside the split, by name."""
    data = study.data
    named = {"instructions": data.instructions, "plain_text": data.plain_text, "dev": data.dev, **data.evaluation}
    return {
        name: source for name, source in named.items() if source is not None and not isinstance(source, SplitSource)
    }


SLICES: dict[str, Callable[..., Section]] = {}


def _slice(function: Callable[..., Section]) -> Callable[..., Section]:
    """Files a function under the rule that it is named after."""
    SLICES[function.__name__.removeprefix("_")] = function
    return function


@_slice
def _gather_source(study: Study, source: str) -> Section:
    return GatherSource(name=source, source=sources_of(study)[source], seed=study.data.world_seed)


@_slice
def _make_tokenizer(study: Study) -> Section:
    teacher = study.models.teacher
    return MakeTokenizer(
        model=None if isinstance(teacher, ScratchModel) else teacher,
        vocabulary_size=study.models.vocabulary_size,
        wrapper=study.data.wrapper,
    )


@_slice
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


@_slice
def _prepare_evaluation(study: Study, dataset: str) -> Section:
    data = study.data
    source = data.dev if dataset == "dev" else data.evaluation[dataset]
    cut = isinstance(source, SplitSource)
    return PrepareEvaluation(
        name=dataset,
        part=("dev" if dataset == "dev" else "test") if cut else None,
        leave_out=source.leave_out if dataset == "dev" else [],
        wrapper=data.wrapper,
        max_prompt_tokens=data.max_prompt_tokens,
        max_total_tokens=data.max_total_tokens if dataset == "dev" else None,
    )


@_slice
def _make_base(study: Study, role: str) -> Section:
    return MakeBase(
        role=role,
        model=base_model(study, role),
        vocabulary_size=study.models.vocabulary_size,
        plain_text_tokens=study.data.plain_text_tokens,
        deepspeed=study.deepspeed,
        seed=study.seed,
    )


@_slice
def _train_run(study: Study, run: str) -> Section:
    system, section = study.systems[run], run_of(study, run)
    plugins = {Path(plugin).stem: plugin for plugin in study.plugins}
    copied = getattr(section, "updates_of", None)
    if copied and system.beside(copied) in study.systems:
        copied = system.beside(copied)
    return TrainRun(
        name=system.recipe,
        plugin=plugins.get(section.method),
        # How a checkpoint is chosen later does not change the training.
        run=section.model_dump(mode="json", exclude={"select"}),
        updates_of=run_of(study, copied).training if copied else None,
        labelled_rows=study.data.labelled_rows if system.student else None,
        prompts=study.teacher_samples.prompts if "prompts" in section.needs else None,
        wrapper=study.data.wrapper,
        plain_text_tokens=study.data.plain_text_tokens,
        deepspeed=study.deepspeed,
        seed=study.seed if system.seed is None else system.seed,
    )


@_slice
def _sample_teacher(study: Study, shard: str) -> Section:
    return SampleTeacher(
        shard=int(shard),
        **study.teacher_samples.model_dump(),
        wrapper=study.data.wrapper,
        sampling=study.sampling,
        seed=study.seed,
    )


@_slice
def _build_candidates(study: Study, shard: str) -> Section:
    return BuildCandidates(
        shard=int(shard),
        shards=study.teacher_samples.shards,
        **study.candidates.model_dump(),
        deepspeed=study.deepspeed,
    )


@_slice
def _validate_run(study: Study, run: str) -> Section:
    generation = study.generation
    return ValidateRun(
        decoding=generation.decodings[primary_decoding(study)],
        max_new_tokens=generation.max_new_tokens,
        dev_rows=generation.dev_rows,
        dev_seed=generation.dev_seed,
        wrapper=study.data.wrapper,
        sampling=study.sampling,
    )


@_slice
def _select_checkpoint(study: Study, run: str) -> Section:
    return SelectCheckpoint(name=run, rule=run_of(study, run).select)


@_slice
def _generate_responses(study: Study, system: str) -> Section:
    return GenerateResponses(
        primary=primary_decoding(study),
        decodings=study.generation.decodings,
        seeds=study.generation.seeds,
        max_new_tokens=study.generation.max_new_tokens,
        wrapper=study.data.wrapper,
        sampling=study.sampling,
    )


@_slice
def _score_responses(study: Study, system: str) -> Section:
    return ScoreResponses(system=system)


@_slice
def _check_models(study: Study, role: str) -> Section:
    return CheckModels()


@_slice
def _adopt_model(study: Study, adopted: str) -> Section:
    return AdoptModel(name=adopted)


@_slice
def _adopt_samples(study: Study) -> Section:
    return AdoptSamples(
        wrapper=study.data.wrapper,
        prompt_tokens=study.data.max_prompt_tokens,
        response_tokens=study.teacher_samples.max_new_tokens,
        held_out_prompts=study.teacher_samples.held_out_prompts,
    )


@_slice
def _gather_samples(study: Study) -> Section:
    return GatherSamples()


@_slice
def _judge_pair(study: Study, first: str, second: str) -> Section:
    # Which other pairs are judged does not change this one.
    judge = resolve_judge(study.judge, os.environ).model_copy(update={"pairs": []})
    return JudgePair(judge=judge, pair=(first, second))


@_slice
def _make_tables(study: Study) -> Section:
    systems = {}
    for name, system in study.systems.items():
        run, trained = run_of(study, name), getattr(study.external, name, None) is None
        systems[name] = ReportedSystem(
            student=system.student,
            run=system.run,
            method=run.method,
            is_control=is_control(study, name),
            seed=system.seed,
            options=run.model_dump(mode="json", exclude={"training"}),
            training=run.training if trained else None,
        )
    return MakeTables(
        systems=systems,
        datasets=list(study.data.evaluation),
        decodings=study.generation.decodings,
        processes=study.deepspeed.processes,
        paper=study.paper,
        # Data, so in no digest of code.
        published=digest_value({path.name: digest_file(path) for path in PUBLISHED.glob("*.csv")})[:16],
        seed=study.seed,
    )


@_slice
def _render_tables(study: Study) -> Section:
    embedded = isinstance(study.data.instructions, WorldSource)
    return RenderTables(
        title=study.title,
        embedded=embedded,
        decodings=study.generation.decodings,
        deepspeed=study.deepspeed,
        sampling=study.sampling,
    )


@_slice
def _draw_figures(study: Study) -> Section:
    return DrawFigures(
        recipes={name: system.recipe for name, system in study.systems.items()},
        datasets=list(study.data.evaluation),
        decodings=list(study.generation.decodings),
        seed=study.seed,
    )


@_slice
def _render_report(study: Study) -> Section:
    folders = {}
    for name in study.systems:
        trained = getattr(study.external, name, None) is None
        validated = trained and run_of(study, name).select == "dev_rouge"
        kinds = [*["training"] * trained, *["validation"] * validated, "models", "generations", "scores"]
        folders[name] = [f"{kind}/{name}" for kind in kinds]
    for first, second in judged_pairs(study):
        folders[first].append(f"verdicts/{first}-{second}")
    return RenderReport(
        **_render_tables(study).model_dump(),
        prompts=study.report.prompts,
        folders=folders,
        config=study.model_dump(mode="json"),
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
    return SLICES[rule](study, **wildcards)
