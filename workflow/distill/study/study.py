"""The whole config: all sections and the combinations between them that make no study."""

import re
from collections.abc import Iterator
from functools import cache, cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Literal, Union

from pydantic import Field, create_model, model_validator

from distill.config.base import Section
from distill.config.base_models import ScratchModel, StudentModel
from distill.config.candidates import Candidates
from distill.config.data import Data, PreferenceTest, SplitSource
from distill.config.deepspeed import DeepSpeed
from distill.config.efficiency import Efficiency
from distill.config.environments import Environments
from distill.config.external import External
from distill.config.generation import Generation
from distill.config.judge import Judging
from distill.config.models import Models
from distill.config.paper import Paper
from distill.config.phase1 import Phase1Run
from distill.config.preferences import Preferences, PreferenceTeacher
from distill.config.report import Report
from distill.config.runs import Run
from distill.config.sampling import Sampling
from distill.config.sources import GeneratedSource
from distill.config.teacher import SPEAKING, ApiTeacher, Teacher, TeacherRun, TextTeacher
from distill.config.teacher_samples import TeacherSamples
from distill.config.tracker import Package
from distill.methods.needs import NEEDS, PROBABILITIES
from distill.metrics.registry import metric_names
from distill.study.embedded import EMBEDDED_RUNS
from distill.study.systems import BASE, MAIN_STUDENT, PHASE_1, PREFERENCE_TEACHER, TEACHER, System

_TEACHERS = (TEACHER, PREFERENCE_TEACHER)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""Names stand in those of files, two of them in a pair's; file systems may take upper and lower case for one."""
_RESERVED = (*_TEACHERS, PHASE_1, BASE, MAIN_STUDENT, "tie")
"""What a run or a student may not be called: the study's own systems, and what a judge says of two."""
_EXPECTED_NAME = f"expected a new name of a-z, 0-9 and _, 40 of them at most, and not {', '.join(_RESERVED)}"
VLLM_CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)


class FurtherStudent(Section):
    """One more student of the same teacher."""

    model: StudentModel = Field(description="The student's base; kinds as for models.student.")
    phase1: Phase1Run | None = Field(description="Keys that differ from the study's phase1.")
    runs: dict[str, Run] = Field(description="Keys that differ from the study's runs; null leaves a run out.")


class Study(Section):
    """One distillation study. The defaults are the embedded study: no hub, no GPU, no key.

    `study_type` makes the type that a config is checked against, in which `runs` holds the sections of all methods.
    """

    title: str = Field("The embedded study", description="Heading of results/tables.md.")
    results: str = Field("results", description="Folder of everything the study makes.")
    save_every_minutes: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="Minutes between saves of a training's state, besides those at its checkpoints; above 0. They take "
        "at most a fiftieth of the time. It changes no result and reruns no training.",
    )
    keep_checkpoints: Literal["all", "selected"] = Field(
        "all",
        description="Checkpoints whose weights stay once a run's model is chosen: all, or the selected and the last. "
        "It changes no result; another choice afterwards needs the training again where its weights are gone.",
    )
    store: str | None = Field(
        None,
        description="A folder or s3://BUCKET/PREFIX where finished artifacts are shared with other machines "
        "(docs/sharing.md); null: none. It changes no result and reruns nothing.",
    )
    tracker: Package | None = Field(
        None,
        description="A package that shows the curves of trainings beside TensorBoard, trackio or wandb "
        "(docs/results.md); null: none. It changes no result and reruns nothing.",
    )
    device_memory_gb: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Memory of a GPU in GB; above 0. `python -m distill plan` warns where a stage does not fit; null: "
        "no warning. It changes no result and reruns nothing.",
    )
    seed: int = Field(
        10, ge=0, description="Training seed; every stage derives its own from it (paper: 10); at least 0."
    )
    data: Data = Field(
        default_factory=Data, description="Instructions, evaluation sets, plain text, prompt (paper, experiments)."
    )
    models: Models = Field(
        default_factory=Models, description="Base models of teacher and student, one shared vocabulary."
    )
    external: External = Field(
        default_factory=External, description="Stages supplied from outside instead of computed."
    )
    deepspeed: DeepSpeed = Field(default_factory=DeepSpeed, description="How every training stage runs.")
    teacher: Teacher = Field(
        default_factory=TeacherRun,
        description="Supervised fine-tuning of the teacher; or {kind: texts}, a teacher that only speaks.",
    )
    phase1: Phase1Run | None = Field(
        default_factory=Phase1Run,
        description="Phase 1 of the student; null for none: all runs start from base, which is evaluated in its place.",
    )
    sampling: Sampling = Field(default_factory=Sampling, description="The text generation engine.")
    teacher_samples: TeacherSamples = Field(
        default_factory=TeacherSamples, description="The distillation corpus D* (paper, training section)."
    )
    candidates: Candidates = Field(
        default_factory=Candidates, description="Teacher top-p sets (paper, section on M_p)."
    )
    preferences: Preferences | None = Field(
        None,
        description="Preference pairs, the teacher trained on them (system `teacher_dpo`) and its values, for the "
        "methods dpo, tvkd, dckd and adpa; null if no run uses them. Keys: `pairs`, `teacher`, `values`.",
    )
    plugins: list[str] = Field(
        [], description="Python files with methods of your own, each named as its file (docs/methods.md)."
    )
    runs: dict[str, Run] = Field(
        EMBEDDED_RUNS,
        validate_default=True,
        min_length=1,
        description="The compared runs by name; method: sft, kd, seqkd, minillm, bd, or one of a plugin.",
    )
    further_students: dict[str, FurtherStudent] = Field(
        {}, description="More students of the same teacher, by name: `model`, and what differs in `phase1` and `runs`."
    )
    further_seeds: list[int] = Field(
        [], description="Training seeds besides `seed` with which phase 1 and all runs are trained again."
    )
    generation: Generation = Field(default_factory=Generation, description="Evaluation (paper, evaluation section).")
    efficiency: Efficiency = Field(
        default_factory=Efficiency, description="What the selected models cost to run (docs/results.md)."
    )
    judge: Judging = Field(default_factory=Judging, description="Win rates (paper, win-rate figure).")
    report: Report = Field(default_factory=Report, description="The report page, figures and LaTeX tables.")
    paper: Paper | None = Field(
        None,
        description="The paper's models that this study repeats, whose published numbers then stand in the tables: "
        "`family` (GPT-2, OPT or Qwen-2.5) and `students`, the paper's size by name, e.g. {student: 120M}.",
    )
    environments: Environments = Field(default_factory=Environments, description="Interpreters and locks.")

    @cached_property
    def systems(self) -> dict[str, System]:
        """Every evaluated model by name, in the tables' order: the teacher, then student by student, seed by seed."""
        is_trained = isinstance(self.teacher, TeacherRun)
        systems = [System("", TEACHER, None, given=self.external.teacher)] if is_trained else []
        systems += [System("", PREFERENCE_TEACHER, None)] if self.preferences else []
        students: dict[str, Study | FurtherStudent] = {MAIN_STUDENT: self, **self.further_students}
        for student, section in students.items():
            given = self.external.phase1 if student == MAIN_STUDENT else None
            for seed in (self.seed, *self.further_seeds):
                is_first = seed == self.seed
                first = System(student, PHASE_1 if section.phase1 else BASE, seed, is_first, given)
                # One that is not trained here serves every seed.
                systems += [first] if is_first or first.is_trained else []
                systems += [System(student, run, seed, is_first) for run in section.runs]
        return {system.name: system for system in systems}

    @property
    def adopts_samples(self) -> bool:
        """Whether the teacher's samples are not drawn here: a file, or texts of a teacher that is asked."""
        return bool(self.external.samples) or isinstance(self.teacher, ApiTeacher)

    @model_validator(mode="after")
    def _combinations(self) -> "Study":
        for problem in (
            *self._run_problems(),
            *self._start_problems(),
            *self._model_problems(),
            *self._data_problems(),
            *self._judge_problems(),
            *self._paper_problems(),
            *self._label_problems(),
        ):
            raise ValueError(problem)
        return self

    def _label_problems(self) -> Iterator[str]:
        labels = self.report.labels
        if unknown := labels.keys() - self.systems.keys():
            yield f"report.labels: expected systems of the study, found {min(unknown)}; correct it or take it out"
        shown = [labels.get(name, name) for name in self.systems]
        if twice := {label for label in shown if shown.count(label) > 1}:
            yield f"report.labels: expected a label of its own for each system, found {min(twice)!r} twice; change one"

    def _run_problems(self) -> Iterator[str]:
        if self.external.phase1 and not self.phase1:
            yield "external.phase1: expected null since phase1 is null, found a folder; leave one of them out"
        recipes: dict[str, Run | TeacherRun | PreferenceTeacher | Phase1Run | None]
        recipes = {"teacher": self.teacher} if isinstance(self.teacher, TeacherRun) else {}
        recipes |= {"phase1": self.phase1, **{f"runs.{n}": r for n, r in self.runs.items()}}
        recipes |= {"preferences.teacher": self.preferences.teacher} if self.preferences else {}
        for name, student in self.further_students.items():
            key = f"further_students.{name}"
            if not _NAME.fullmatch(name) or name in (*_RESERVED, *self.runs):
                yield f"{key}: {_EXPECTED_NAME}; rename the student"
            recipes |= {f"{key}.phase1": student.phase1, **{f"{key}.runs.{n}": r for n, r in student.runs.items()}}
        if len({self.seed, *self.further_seeds}) <= len(self.further_seeds) or min(self.further_seeds, default=0) < 0:
            yield f"further_seeds: expected seeds from 0, other than {self.seed}, each once, found {self.further_seeds}"
        for key, run in recipes.items():
            if run is None:
                continue
            name = key.rpartition(".")[2]
            if isinstance(run, Run):
                if not _NAME.fullmatch(name) or name in _RESERVED:
                    yield f"{key}: {_EXPECTED_NAME}; rename the run"
                yield from (f"{key}.{problem}" for problem in run.problems(self))
                for need in sorted(run.needs - NEEDS.keys()):
                    yield f"{key}: expected needs of its method among {list(NEEDS)}, found {need!r}; correct the method"
                yield from self._teacher_problems(key, run)
            rules = ["dev_loss", *(f"dev_{name}" for name in metric_names()), "last"]
            if run.select not in rules:
                yield f"{key}.select: expected one of {rules}, found {run.select!r}; correct the rule"
            training, processes = run.training, self.deepspeed.processes
            if training.batch % (training.micro_batch * processes):
                yield (
                    f"{key}.training.batch: expected a multiple of micro_batch x deepspeed.processes = "
                    f"{training.micro_batch * processes}, found {training.batch}"
                )

    def _teacher_problems(self, key: str, run: Run) -> Iterator[str]:
        if not isinstance(self.teacher, SPEAKING):
            return
        if needs := sorted(run.needs & PROBABILITIES):
            yield (
                f"{key}: expected a method that learns from the teacher's texts alone, such as sft or seqkd, since "
                f"teacher.kind is {self.teacher.kind}, found {run.method}, which needs {', '.join(needs)}; leave the "
                "run out"
            )
        if isinstance(self.teacher, TextTeacher) and "teacher_samples" in run.needs and not self.external.samples:
            yield "external.samples: expected a file of texts since teacher.kind is texts, found null; name one"

    def _start_problems(self) -> Iterator[str]:
        students = {"": self} | {f"further_students.{name}.": own for name, own in self.further_students.items()}
        for key, student in students.items():
            starts = {PHASE_1: BASE} if student.phase1 else {}
            starts |= {name: run.start for name, run in student.runs.items()}
            for name, start in starts.items():
                if start not in (BASE, *starts):
                    yield (
                        f"{key}runs.{name}.start: expected base or another run of the student among {list(starts)}, "
                        f"found {start!r}; name one"
                    )
            try:
                TopologicalSorter({name: [start] for name, start in starts.items()}).prepare()
            except CycleError as error:
                circle = error.args[1][::-1]
                found = " after ".join(circle)
                yield f"{key}runs.{circle[0]}.start: expected a way back to base, found {found}; start one at base"

    def _model_problems(self):
        if isinstance(self.teacher, SPEAKING):
            kind = self.teacher.kind
            if self.external.teacher:
                yield f"external.teacher: expected null since teacher.kind is {kind}, found a folder; leave one out"
            if self.preferences:
                yield f"preferences: expected null since teacher.kind is {kind}, found a section; leave one out"
        if isinstance(self.teacher, ApiTeacher) and self.external.samples:
            yield "external.samples: expected null since teacher.kind is api, found a file; leave one out"
        models = {"models.teacher": self.models.teacher, "models.student": self.models.student}
        models |= {f"further_students.{name}.model": student.model for name, student in self.further_students.items()}
        scratch = {key: isinstance(model, ScratchModel) for key, model in models.items()}
        odd = [key for key, is_scratch in scratch.items() if is_scratch != scratch["models.teacher"]]
        if odd:
            yield (
                f"{odd[0]}: expected teacher and student to share one vocabulary, found one scratch model (own "
                "trained tokenizer) beside a given one; make both scratch or neither"
            )
        if self.models.further_architectures and not scratch["models.student"]:
            yield "models.further_architectures: expected none for a given student, found some; set it to []"
        if any(scratch.values()) and self.data.plain_text is None:
            yield "models: scratch models pretrain on data.plain_text, found null; name a data.plain_text source"
        if self.deepspeed.processes % self.deepspeed.nodes:
            yield (
                f"deepspeed.nodes: expected a divisor of deepspeed.processes = {self.deepspeed.processes}, found "
                f"{self.deepspeed.nodes}; lower it, or raise processes"
            )
        width = self.sampling.tensor_parallel
        if width > 1 and self.sampling.engine != "vllm":
            yield (
                f"sampling.tensor_parallel: expected 1 with engine {self.sampling.engine}, found {width}; set it "
                "to 1, or take vllm"
            )
        for key, model in models.items():
            if isinstance(model, ScratchModel) and model.heads % width:
                yield (
                    f"sampling.tensor_parallel: expected a divisor of {key}.heads = {model.heads}, found {width}; "
                    "lower it, or change heads"
                )
            on_cpu = self.sampling.engine == "vllm" and self.sampling.device == "cpu"
            head = model.hidden_size // model.heads if isinstance(model, ScratchModel) else None
            if on_cpu and head is not None and head not in VLLM_CPU_HEAD_SIZES:
                yield (
                    f"{key}.heads: expected hidden_size / heads among {VLLM_CPU_HEAD_SIZES}, the head sizes "
                    f"of vLLM on CPU, found {head}; change heads or set sampling.engine to transformers"
                )

    def _data_problems(self):
        data = self.data
        held_out = {"dev": data.dev, **{f"evaluation.{name}": source for name, source in data.evaluation.items()}}
        cut = {key: source for key, source in held_out.items() if isinstance(source, SplitSource)}
        if sum(key != "dev" for key in cut) > 1:
            yield f"data.evaluation: expected at most one set of kind split, found {sorted(set(cut) - {'dev'})}"
        for name, source in data.evaluation.items():
            if isinstance(source, PreferenceTest) and self.preferences is None:
                yield f"data.evaluation.{name}.kind: expected preferences in the config, found null; add the section"
        if isinstance(data.instructions, GeneratedSource):
            train = max(data.train_rows or 1, data.labelled_rows or 1)
            need = sum(source.rows for source in cut.values()) + train
            if need > data.instructions.rows:
                yield (
                    f"data.instructions.rows: expected at least {need} rows, {train} of them for train, found "
                    f"{data.instructions.rows}; raise it, make the splits smaller, or lower data.labelled_rows"
                )
        if data.labelled_rows and data.train_rows and data.labelled_rows > data.train_rows:
            yield (
                f"data.labelled_rows: expected at most data.train_rows = {data.train_rows}, found "
                f"{data.labelled_rows}; lower it"
            )
        for name in data.dev.leave_out:
            if name not in data.evaluation:
                yield f"data.dev.leave_out: expected sets among {list(data.evaluation)}, found {name!r}; correct it"
        for name, source in data.evaluation.items():
            if source.metric not in metric_names():
                yield (
                    f"data.evaluation.{name}.metric: expected one of {[*metric_names()]}, found {source.metric!r}; "
                    "correct the name"
                )
            if not _NAME.fullmatch(name) or name in ("instructions", "dev", "train", "plain_text"):
                yield f"data.evaluation.{name}: expected a name of a-z, 0-9 and _, 40 of them at most; rename the set"
        seeds = self.generation.seeds
        if len({*seeds}) < len(seeds) or min(seeds) < 0:
            yield f"generation.seeds: expected seeds from 0, each once, found {seeds}; correct them"
        for name in self.generation.decodings:
            if not re.fullmatch(r"[a-z][a-z0-9_.]{0,39}", name):
                yield (
                    f"generation.decodings.{name}: expected a name of a-z, 0-9, _ and ., 40 of them at most; rename "
                    "the decoding"
                )

    def _judge_problems(self):
        judge = self.judge
        if judge.kind == "none":
            if judge.pairs:
                yield f"judge.pairs: expected none since judge.kind is none, found {len(judge.pairs)}; leave them out"
            return
        if judge.metric not in metric_names():
            yield f"judge.metric: expected one of {[*metric_names()]}, found {judge.metric!r}; correct the name"
        if judge.dataset not in self.data.evaluation:
            yield f"judge.dataset: expected one of {sorted(self.data.evaluation)}, found {judge.dataset!r}"
        if judge.decoding not in self.generation.decodings:
            yield f"judge.decoding: expected one of {sorted(self.generation.decodings)}, found {judge.decoding!r}"
        elif self.generation.decodings[judge.decoding].temperature > 0 and judge.seed not in self.generation.seeds:
            yield f"judge.seed: expected one of generation.seeds {self.generation.seeds}, found {judge.seed}"
        for pair in judge.pairs:
            for system in pair:
                if system not in self.systems:
                    yield f"judge.pairs: expected systems among {list(self.systems)}, found {system!r}"

    def _paper_problems(self) -> Iterator[str]:
        students = [MAIN_STUDENT, *self.further_students]
        for name in self.paper.students if self.paper else ():
            if name not in students:
                yield f"paper.students.{name}: expected one of the students {students}; correct the name"


@cache
def study_type(sections: tuple[type[Run], ...]) -> type[Study]:
    """Returns the type of a study whose runs may have any of these sections, told apart by their `method`."""
    # The sections are known at run time alone.
    run = Annotated[Union[sections], Field(discriminator="method")]  # type: ignore[valid-type]  # noqa: UP007
    student = create_model(
        "FurtherStudent", __base__=FurtherStudent, runs=(dict[str, run], FurtherStudent.model_fields["runs"])
    )
    return create_model(
        "Study",
        __base__=Study,
        runs=(dict[str, run], Study.model_fields["runs"]),
        further_students=(dict[str, student], Study.model_fields["further_students"]),
    )
