"""The slice of the config that each stage sees: a stage reruns when its slice changes, and it can read nothing else."""

from typing import Literal

from distill.config.base import Section
from distill.config.data import Source
from distill.config.judge import Judging, Pair
from distill.config.models import FolderModel, HubModel, StudentModel
from distill.config.runs import Run, SelectionRule
from distill.config.sampling import Decoding, Sampling
from distill.config.training import DeepSpeed, Training


class MakeBase(Section):
    """Slice of make_base."""

    role: Literal["teacher", "student"]
    model: StudentModel
    vocabulary_size: int
    plain_text_tokens: int
    deepspeed: DeepSpeed
    seed: int


class TrainRun(Section):
    """Slice of train_run; `updates_of` is the recipe of the run whose number of updates is copied."""

    name: str
    run: Run
    updates_of: Training | None
    wrapper: str
    plain_text_tokens: int
    deepspeed: DeepSpeed
    seed: int


class BuildCandidates(Section):
    """Slice of build_candidates."""

    p_max: float
    batch: int
    deepspeed: DeepSpeed


class SampleTeacher(Section):
    """Slice of sample_teacher: one shard of the prompts."""

    shard: int
    shards: int
    prompts: int | None
    held_out_prompts: int
    per_prompt: int
    temperature: float
    top_p: float
    max_new_tokens: int
    wrapper: str
    sampling: Sampling
    seed: int


class GatherSamples(Section):
    """Slice of gather_samples: it has none."""


class ValidateRun(Section):
    """Slice of validate_run."""

    name: str
    decoding: Decoding
    max_new_tokens: int
    dev_rows: int | None
    dev_seed: int
    wrapper: str
    sampling: Sampling


class SelectCheckpoint(Section):
    """Slice of select_checkpoint."""

    name: str
    rule: SelectionRule


class GenerateResponses(Section):
    """Slice of generate_responses."""

    system: str
    primary: str
    decodings: dict[str, Decoding]
    seeds: list[int]
    max_new_tokens: int
    wrapper: str
    sampling: Sampling


class ScoreResponses(Section):
    """Slice of score_responses."""

    system: str


class GatherSource(Section):
    """Slice of gather_source; `name` is instructions, dev, plain_text or an evaluation set."""

    name: str
    source: Source
    seed: int


class MakeTokenizer(Section):
    """Slice of make_tokenizer; `model` is null for scratch models, whose tokenizer is trained."""

    model: HubModel | FolderModel | None
    vocabulary_size: int
    wrapper: str


class SplitData(Section):
    """Slice of split_data; `test` names the evaluation set that is cut, and rows are 0 where nothing is cut."""

    test: str | None
    test_rows: int
    dev_rows: int
    train_rows: int | None
    split_seed: int
    wrapper: str
    max_prompt_tokens: int
    max_total_tokens: int


class PrepareEvaluation(Section):
    """Slice of prepare_evaluation.

    `part` is dev or test where the set is cut from the instructions, else null. `max_total_tokens` is set for dev,
    whose responses are read, and null for a set that is only generated on.
    """

    name: str
    part: Literal["dev", "test"] | None
    wrapper: str
    max_prompt_tokens: int
    max_total_tokens: int | None = None


class JudgePair(Section):
    """Slice of judge_pair; `judge.kind` is openai or overlap, and `pair` is [system, opponent]."""

    judge: Judging
    pair: Pair


class ReportedRun(Section):
    """What the tables say about a training run besides its logs; `batch` is in sequences an update."""

    method: str
    batch: int


class MakeTables(Section):
    """Slice of make_tables.

    `systems`, `datasets` and `decodings` give the tables' order; the first decoding is the primary one. `runs` are the
    runs trained by this study; a model supplied from outside has none. Systems are compared with the `baselines` that
    are among them. `seed` is that of the bootstrap.
    """

    systems: list[str]
    datasets: list[str]
    decodings: list[str]
    runs: dict[str, ReportedRun]
    baselines: list[str] = ["phase1", "sft", "sft_continued"]
    seed: int


class RenderTables(Section):
    """Slice of render_tables; the first decoding is the primary one."""

    title: str
    embedded: bool
    decodings: dict[str, Decoding]
    deepspeed: DeepSpeed
    sampling: Sampling


class CheckModels(Section):
    """Slice of check_models: it has none."""


class AdoptModel(Section):
    """Slice of adopt_model; `name` is the key of `external`."""

    name: Literal["teacher", "phase1"]


class AdoptSamples(Section):
    """Slice of adopt_samples: it has none."""
