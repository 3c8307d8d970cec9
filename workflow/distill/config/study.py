"""The whole config: all sections and the combinations between them that make no study."""

import re

from pydantic import Field, model_validator

from distill.config.base import Section
from distill.config.data import Data, SplitSource, WorldSource
from distill.config.environments import Environments
from distill.config.judge import Judging
from distill.config.models import External, Models, ScratchModel
from distill.config.runs import BellmanRun, Phase1Run, Run, SftRun, TeacherRun, default_runs
from distill.config.sampling import Candidates, Generation, Sampling, TeacherSamples
from distill.config.training import DeepSpeed

VLLM_CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)


class Study(Section):
    """One distillation study. The defaults are the embedded study: no hub, no GPU, no key."""

    title: str = Field("The embedded study", description="Heading of results/tables.md.")
    results: str = Field("results", description="Folder of everything the study makes.")
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
    teacher: TeacherRun = Field(default_factory=TeacherRun, description="Supervised fine-tuning of the teacher.")
    phase1: Phase1Run = Field(default_factory=Phase1Run, description="Phase 1 of the student.")
    sampling: Sampling = Field(default_factory=Sampling, description="The text generation engine.")
    teacher_samples: TeacherSamples = Field(
        default_factory=TeacherSamples, description="The distillation corpus D* (paper, training section)."
    )
    candidates: Candidates = Field(
        default_factory=Candidates, description="Teacher top-p sets (paper, section on M_p)."
    )
    runs: dict[str, Run] = Field(
        default_factory=default_runs, min_length=1, description="The compared runs by name; method: sft or bd."
    )
    generation: Generation = Field(default_factory=Generation, description="Evaluation (paper, evaluation section).")
    judge: Judging = Field(default_factory=Judging, description="Win rates (paper, win-rate figure).")
    environments: Environments = Field(default_factory=Environments, description="Interpreters and locks.")

    @property
    def systems(self) -> list[str]:
        """Every evaluated model, in the tables' order."""
        return ["teacher", "phase1", *self.runs]

    @model_validator(mode="after")
    def _combinations(self) -> "Study":
        for problem in (
            *self._run_problems(),
            *self._model_problems(),
            *self._data_problems(),
            *self._judge_problems(),
        ):
            raise ValueError(problem)
        return self

    def _run_problems(self):
        recipes = {"teacher": self.teacher, "phase1": self.phase1, **self.runs}
        for name, run in self.runs.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in ("teacher", "phase1", "base"):
                yield f"runs.{name}: expected a new name of a-z, 0-9 and _; rename the run"
            copied = run.updates_of if isinstance(run, SftRun) else None
            if copied is not None and not isinstance(self.runs.get(copied), BellmanRun):
                yield f"runs.{name}.updates_of: expected the name of a bd run, found {run.updates_of!r}"
            if isinstance(run, BellmanRun):
                if self.candidates.p_max < run.bellman.p < 1:
                    yield (
                        f"runs.{name}.bellman.p: expected at most candidates.p_max = {self.candidates.p_max} (or 1), "
                        f"found {run.bellman.p}; lower p or raise candidates.p_max"
                    )
                if run.plain_text_weight > 0 and self.data.plain_text is None:
                    yield (
                        f"runs.{name}.plain_text_weight: expected 0 since data.plain_text is null, found "
                        f"{run.plain_text_weight}; set it to 0 or name a data.plain_text source"
                    )
        for name, run in recipes.items():
            training, processes = run.training, self.deepspeed.processes
            if training.batch % (training.micro_batch * processes):
                key = f"runs.{name}" if name in self.runs else name
                yield (
                    f"{key}.training.batch: expected a multiple of micro_batch x deepspeed.processes = "
                    f"{training.micro_batch * processes}, found {training.batch}"
                )

    def _model_problems(self):
        teacher, student = self.models.teacher, self.models.student
        scratch = isinstance(teacher, ScratchModel), isinstance(student, ScratchModel)
        if scratch != (True, True) and any(scratch):
            yield (
                "models.student: expected teacher and student to share one vocabulary, found one scratch model (own "
                "trained tokenizer) beside a given one; make both scratch or neither"
            )
        if any(scratch) and self.data.plain_text is None:
            yield "models: scratch models pretrain on data.plain_text, found null; name a data.plain_text source"
        for role, model in (("teacher", teacher), ("student", student)):
            on_cpu = self.sampling.engine == "vllm" and self.sampling.device == "cpu"
            head = model.hidden_size // model.heads if isinstance(model, ScratchModel) else None
            if on_cpu and head is not None and head not in VLLM_CPU_HEAD_SIZES:
                yield (
                    f"models.{role}.heads: expected hidden_size / heads among {VLLM_CPU_HEAD_SIZES}, the head sizes "
                    f"of vLLM on CPU, found {head}; change heads or set sampling.engine to transformers"
                )

    def _data_problems(self):
        data = self.data
        held_out = {"dev": data.dev, **{f"evaluation.{name}": source for name, source in data.evaluation.items()}}
        cut = {key: source for key, source in held_out.items() if isinstance(source, SplitSource)}
        if sum(key != "dev" for key in cut) > 1:
            yield f"data.evaluation: expected at most one set of kind split, found {sorted(set(cut) - {'dev'})}"
        if isinstance(data.instructions, WorldSource):
            need = sum(source.rows for source in cut.values()) + (data.train_rows or 1)
            if need > data.instructions.rows:
                yield (
                    f"data.instructions.rows: expected at least {need} rows for the splits, found "
                    f"{data.instructions.rows}; raise it or make the splits smaller"
                )
        for name in data.evaluation:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in ("instructions", "dev", "train", "plain_text"):
                yield f"data.evaluation.{name}: expected a name of a-z, 0-9 and _; rename the set"
        for name in self.generation.decodings:
            if not re.fullmatch(r"[a-z][a-z0-9_.]*", name):
                yield f"generation.decodings.{name}: expected a name of a-z, 0-9, _ and .; rename the decoding"

    def _judge_problems(self):
        judge = self.judge
        if judge.dataset not in self.data.evaluation:
            yield f"judge.dataset: expected one of {sorted(self.data.evaluation)}, found {judge.dataset!r}"
        if judge.decoding not in self.generation.decodings:
            yield f"judge.decoding: expected one of {sorted(self.generation.decodings)}, found {judge.decoding!r}"
        elif self.generation.decodings[judge.decoding].temperature > 0 and judge.seed not in self.generation.seeds:
            yield f"judge.seed: expected one of generation.seeds {self.generation.seeds}, found {judge.seed}"
        for pair in judge.pairs:
            for system in pair:
                if system not in self.systems:
                    yield f"judge.pairs: expected systems among {self.systems}, found {system!r}"
