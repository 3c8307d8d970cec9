"""What each stage of a study costs before it runs: its sections put into the formulas of `distill.planning`.

Nothing is read but the config, the size of local data files and the config.json of local models, so that the workflow
may ask while it starts.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from distill.config.base import expand_path
from distill.config.base_models import ScratchModel
from distill.config.data import PreferenceTest, SplitSource
from distill.config.given_models import FolderModel
from distill.config.preferences import WorldPairs
from distill.config.runs import Run
from distill.config.sources import FileSource, GeneratedSource, SumsSource
from distill.config.teacher import ApiTeacher
from distill.config.training import Length, Training
from distill.errors import ConfigError
from distill.planning.formulas import (
    MIB,
    PROCESS_MB,
    Cost,
    Part,
    Pass,
    bytes_of,
    engine_memory,
    engine_seconds,
    forward_seconds,
    frozen_memory,
    rollout_seconds,
    training_memory,
    training_seconds,
)
from distill.planning.lengths import DOLLY, SUMS, WORLD, Texts, limits
from distill.planning.rates import Measures, Rates, Software, cpu_rates, gpu_rates
from distill.planning.shapes import Shape, shape_of
from distill.rollouts.section import SamplingRun
from distill.study.parts import base_model, measured_systems, run_of, start_of
from distill.study.study import Study

UNKNOWN_SHAPE = Shape(4096, 32, 14336, 32, 8, 128256, tied=False)
"""Taken for a model that nothing is known of: an 8B model, so that a plan is rather too large."""
UNKNOWN_ROWS = 10_000
DOLLY_ROWS = 15_011
_PER_PROMPT = 8
"""Answers to a prompt in the paper."""
_TEST_ROWS = {"dolly": 500, "self_inst": 242, "vicuna": 80}
"""Rows of MiniLLM's processed sets."""
_ROW_BYTES = 800
"""Of a row on disk, an answer or an example, where only its order of size counts."""
_DEV_EXAMPLES = 64
# Work on all weights as so many reads of them at the rate of a copy, of the records of presets/smollm2.yaml.
_GGUF_PASSES, _DIGEST_PASSES, _ENGINE_PASSES = 60, 15, 40
_LOADED_SHARE = 0.8
"""Of an engine's start: its libraries, which a process has once for all forks; of the records of presets/smoke.yaml."""
_JUDGE_TOKENS = 150
"""Of the judge's wording around a prompt and two answers (`distill.judging.prompts`)."""


class Estimates:
    """What the costs of a study's stages are made from.

    Args:
        study: the checked config.
        measures: of this machine; None takes the defaults.
    """

    def __init__(self, study: Study, measures: Measures | None = None):
        self.study, measures = study, measures or Measures()
        self.cpu, self.gpu = cpu_rates(measures), gpu_rates(measures)
        self.notes: dict[str, None] = {}
        self._shapes: dict[str, Shape] = {}
        self._costs: dict[Any, Cost] = {}

    def rates(self, device: str) -> Rates:
        """Returns the rates of a section's `device`."""
        return self.gpu if device == "cuda" else self.cpu

    def note(self, words: str) -> None:
        """Keeps what the plan had to assume."""
        self.notes[words] = None

    # Data.

    @cached_property
    def texts(self) -> Texts:
        """Lengths of the instruction data, and of the evaluation sets beside it."""
        data = self.study.data
        if isinstance(data.instructions, GeneratedSource):
            return SUMS if isinstance(data.instructions, SumsSource) else WORLD
        if self._is_dolly:
            return DOLLY
        self.note(
            "lengths: nothing is known of data.instructions, so every text is taken as the longest that the config "
            "allows, an upper bound"
        )
        return limits(data.max_prompt_tokens, data.max_total_tokens)

    @property
    def _is_dolly(self) -> bool:
        source = self.study.data.instructions
        name = getattr(source, "repository", getattr(source, "path", ""))
        return "dolly" in name.lower()

    @cached_property
    def prompt(self) -> float:
        """Mean tokens of a prompt."""
        return self.texts.prompt.mean_below(self.study.data.max_prompt_tokens)

    @cached_property
    def response(self) -> float:
        """Mean tokens of the data's responses, EOS included."""
        return self.texts.response.mean_below(self._room)

    @property
    def _room(self) -> float:
        return self.study.data.max_total_tokens - self.prompt

    def answer(self, longest: int) -> float:
        """Returns the mean tokens of an answer of at most so many."""
        return self.texts.response.mean_cut(longest) if self.texts.counted else float(longest)

    def rows_of(self, key: str, source: Any, default: int) -> int:
        """Returns the rows of a source: given, counted in a local file, or `default`."""
        given = getattr(source, "rows", None)
        if given is not None:
            return given
        if isinstance(source, FileSource):
            try:
                with expand_path(source.path, key).open("rb") as file:
                    return max(1, sum(part.count(b"\n") for part in iter(lambda: file.read(2**20), b"")))
            except (OSError, ConfigError):
                pass
        self.note(f"{key}: rows taken as {default:,}")
        return default

    @cached_property
    def instruction_rows(self) -> int:
        """Rows of the instruction data."""
        default = DOLLY_ROWS if self._is_dolly else UNKNOWN_ROWS
        return self.rows_of("data.instructions", self.study.data.instructions, default)

    @cached_property
    def train_rows(self) -> int:
        """Rows of train."""
        data, rows = self.study.data, self.instruction_rows
        kept = self.texts.prompt.share_below(data.max_prompt_tokens) * self.texts.response.share_below(self._room)
        held_out = (data.dev, *data.evaluation.values())
        cut = sum(source.rows for source in held_out if isinstance(source, SplitSource))
        return max(1, min(data.train_rows or rows, int(rows * kept) - cut))

    @cached_property
    def dev_rows(self) -> int:
        """Rows of dev."""
        kept = self.texts.prompt.share_below(self.study.data.max_prompt_tokens)
        return max(1, int(kept * self.rows_of("data.dev", self.study.data.dev, 1000)))

    @cached_property
    def test_rows(self) -> dict[str, int]:
        """Rows of each evaluation set."""
        found = {}
        for name, source in self.study.data.evaluation.items():
            if isinstance(source, PreferenceTest):
                found[name] = self.pairs["test"]
            else:
                found[name] = self.rows_of(f"data.evaluation.{name}", source, _TEST_ROWS.get(name, 500))
        return found

    @cached_property
    def pairs(self) -> dict[str, int]:
        """Preference pairs of train, dev and test; 0 without the section."""
        section = self.study.preferences
        if section is None:
            return dict.fromkeys(("train", "dev", "test"), 0)
        pairs = section.pairs
        if isinstance(pairs, WorldPairs):
            return {"train": pairs.train, "dev": pairs.dev, "test": pairs.test}
        train, test = (
            self.rows_of(f"preferences.pairs.{name}", FileSource(path=getattr(pairs, name)), rows)
            for name, rows in (("train", 6950), ("test", 750))
        )
        return {"train": max(1, train - pairs.dev), "dev": pairs.dev, "test": test}

    @cached_property
    def sampled_prompts(self) -> tuple[int, int]:
        """Training and held-out prompts that the teacher answers."""
        samples = self.study.teacher_samples
        if self.study.external.samples:  # each prompt of train, as the authors published theirs
            return self.train_rows, min(samples.held_out_prompts, self.dev_rows)
        return min(samples.prompts or self.train_rows, self.train_rows), min(samples.held_out_prompts, self.dev_rows)

    @property
    def per_prompt(self) -> int:
        """The teacher's answers to a prompt."""
        if self.study.external.samples:
            self.note(f"external.samples: taken as {_PER_PROMPT} answers to each prompt of train")
            return _PER_PROMPT
        return self.study.teacher_samples.per_prompt

    @property
    def sample_tokens(self) -> float:
        """Mean tokens of a teacher's sample."""
        return self.answer(self.study.teacher_samples.max_new_tokens)

    # Models.

    def shape(self, role: str) -> Shape:
        """Returns the shape of the teacher or of a student."""
        if role not in self._shapes:
            study, model = self.study, base_model(self.study, role)
            teacher = None if role == "teacher" else self.shape("teacher")
            found = shape_of(model, study.models.vocabulary_size, teacher)
            if found is None:
                self.note(f"models: nothing is known of the {role}'s shape, so it is taken as one of 8 billion weights")
            self._shapes[role] = found or UNKNOWN_SHAPE
        return self._shapes[role]

    def model(self, system: str) -> Shape:
        """Returns the shape of a system's model."""
        return self.shape(self.study.systems[system].student or "teacher")

    def updates(self, system: str) -> int:
        """Returns the updates of a training run."""
        run = run_of(self.study, system)
        copied = getattr(run, "updates_of", None)
        if copied:
            own = self.study.systems[system].beside(copied)
            return self.updates(own if own in self.study.systems else copied)
        return updates_of(run.training, self.items(run))

    def items(self, run: Run) -> int:
        """Returns the training items of a run."""
        prompts, _ = self.sampled_prompts
        if "preference_pairs" in run.needs:
            return self.pairs["train"]
        if "teacher_samples" in run.needs and getattr(run, "responses", "teacher") == "teacher":
            per_prompt = getattr(run, "samples_per_prompt", None) or self.per_prompt
            return prompts * per_prompt
        teacher = getattr(self.study.teacher, "training", None)
        is_teacher = run.training == teacher and run.start == "base"
        return min(self.train_rows, (None if is_teacher else self.study.data.labelled_rows) or self.train_rows)

    def cost(self, formula: Callable[..., Cost], **wildcards: str) -> Cost:
        """Returns what a formula says of a job, computed once."""
        key = (formula, *wildcards.items())
        if key not in self._costs:
            self._costs[key] = formula(self, **wildcards)
        return self._costs[key]


def updates_of(length: Training | Length, items: int) -> int:
    """Returns the updates of a run on so many items: whole batches, one at least."""
    if length.steps:
        return length.steps
    assert length.epochs is not None and length.batch is not None
    return max(1, round(length.epochs * max(1, items // length.batch)))


@dataclass(frozen=True)
class Texture:
    """What a training run reads in one update: its own texts, plain text, and how it comes by them.

    Attributes:
        sequences, prompt, response: of a batch's own texts.
        rollouts: answers that the student writes in the whole run.
        plain, plain_teachers: plain-text sequences of a batch, and whether a teacher reads them too.
        dev: sequences of one evaluation on dev.
    """

    sequences: float
    prompt: float
    response: float
    rollouts: float
    teachers: int
    plain: float
    plain_teachers: int
    dev: float


def texture(one: Estimates, system: str) -> Texture:
    """Returns what a run reads, of its needs and the keys that methods share; a plugin's likewise."""
    run, updates = run_of(one.study, system), one.updates(system)
    needs, batch = run.needs, run.training.batch
    is_pairs = "preference_pairs" in needs
    live = len({"teacher_logits", "preference_teacher"} & needs)
    run = getattr(run, "settled", run)
    plain_ratio = getattr(run, "plain_text_kd_ratio", 0.0) or 0.0
    response = one.sample_tokens if "teacher_samples" in needs else one.response
    rollouts = 0.0
    if isinstance(run, SamplingRun):
        response = one.answer(run.max_new_tokens)
        if "prompts" in needs:
            rollouts = -(-updates // getattr(run, "inner_epochs", 1)) * batch
        else:
            rollouts = updates * batch * getattr(run, "student_share", 1.0)
    # BD reads the teacher's stored sets; a live teacher is there for its plain text alone.
    is_plain_alone = "teacher_samples" in needs and not isinstance(run, SamplingRun) and plain_ratio > 0
    sides = 2 if is_pairs or run.method == "distillm2" else 1
    if is_pairs:
        dev = 2 * one.pairs["dev"]
    elif run.method == "bd":
        dev = one.sampled_prompts[1] * one.per_prompt
    else:
        dev = one.dev_rows
    return Texture(
        sequences=sides * batch,
        prompt=one.prompt,
        response=response,
        rollouts=rollouts,
        teachers=0 if is_plain_alone else live,
        plain=batch if "plain_text" in needs else 0,
        plain_teachers=int(plain_ratio > 0),
        dev=dev,
    )


def train_run(one: Estimates, system: str) -> Cost:
    """A training run: updates, evaluations on dev, the student's own answers, checkpoints."""
    study, run, settings = one.study, run_of(one.study, system), one.study.deepspeed
    training, updates, own = run.training, one.updates(system), texture(one, system)
    shape, teacher, rates = one.model(system), one.shape("teacher"), one.rates(settings.device)
    precision, workers = settings.precision, settings.processes
    sides = own.sequences / training.batch
    micro = training.micro_batch * sides
    calls = own.sequences / micro

    def part(sequences: float, tokens: float, states: float, passes: float) -> Part:
        return Part(Pass(sequences, tokens, sequences * states), passes)

    texts = part(own.sequences, own.prompt + own.response, own.response, calls)
    chunks = part(own.plain, study.data.plain_text_tokens, study.data.plain_text_tokens - 1, calls if own.plain else 0)
    update = sum(training_seconds(shape, read, rates, precision) for read in (texts, chunks))
    if settings.gradient_checkpointing:
        update += sum(forward_seconds(shape, read, rates, precision) for read in (texts, chunks))
    update += own.teachers * forward_seconds(teacher, texts, rates, precision)
    update += own.plain_teachers * forward_seconds(teacher, chunks, rates, precision)
    checkpoints = -(-updates // training.evaluate_every)
    dev = part(own.dev, own.prompt + own.response, own.response, -(-own.dev // _DEV_EXAMPLES))
    watched = (shape, *([teacher] * (own.teachers if isinstance(run, SamplingRun) else 0)))
    evaluation = sum(forward_seconds(model, dev, rates, precision) for model in watched)
    seconds = updates * update + workers * (checkpoints + 1) * evaluation
    if own.rollouts:
        longest = run.max_new_tokens  # type: ignore[attr-defined]  # a SamplingRun's
        mixed = [shape, *([teacher] if getattr(run, "teacher_mix", 0) else [])]
        read = Pass(own.rollouts, own.prompt + own.response, own.rollouts * own.response)
        if run.rollout_engine == "sampling":  # type: ignore[attr-defined]
            dtype, answers = study.sampling.dtype, own.rollouts
            seconds += engine_seconds(shape, answers, answers, own.prompt, own.response, rates, dtype)
        else:
            micro_batch, mean = training.micro_batch, own.response
            seconds += rollout_seconds(mixed, own.rollouts, micro_batch, own.prompt, longest, mean, rates, precision)
        scored = Part(read, own.rollouts / training.micro_batch)
        if "prompts" in run.needs:
            seconds += sum(forward_seconds(model, scored, rates, precision) for model in (shape, teacher))
    if "preference_pairs" in run.needs:
        whole = 2 * (one.pairs["train"] + one.pairs["dev"])
        reference = part(whole, own.prompt + own.response, own.response, whole / _DEV_EXAMPLES)
        seconds += forward_seconds(shape, reference, rates, precision)
    held = [teacher] * max(own.teachers, own.plain_teachers)
    longest = max(own.prompt + own.response, study.data.plain_text_tokens if own.plain else 0)
    if settings.device == "cuda":  # lengths vary: a device must hold the longest
        longest = max(longest, study.data.max_total_tokens, study.data.plain_text_tokens if own.plain else 0)
    states = study.data.plain_text_tokens if own.plain else own.response
    memory = training_memory(
        shape,
        micro * longest,
        micro * states,
        held,
        precision=precision,
        zero_stage=settings.zero_stage,
        processes=workers,
        recomputed=settings.gradient_checkpointing,
    )
    saved = bytes_of(precision) * shape.weights * checkpoints
    return _placed(
        settings.device,
        seconds,
        workers * rates.start["train"],
        memory,
        # A model is loaded, and its state saved, in float32.
        4 * shape.weights,
        "train",
        workers,
        disk=saved + _ROW_BYTES * updates,
        state=2 * 12 * shape.weights,
    )


def _placed(
    device: str,
    seconds: float,
    start: float,
    memory: float,
    loaded: float,
    software: Software,
    workers: int = 1,
    disk: float = 0.0,
    state: float = 0.0,
) -> Cost:
    """Returns the cost of a job whose model lies on a GPU, or in the host's memory where there is none."""
    base, on_gpu = PROCESS_MB[software], device == "cuda"
    host = workers * (base + (loaded + (0 if on_gpu else memory)) / MIB)
    return Cost(seconds + start, host, memory / MIB if on_gpu else 0.0, disk_mb=disk / MIB, state_mb=state / MIB)


def _is_gguf(model: Any) -> bool:
    return isinstance(model, FolderModel) and model.gguf_file is not None


def make_tokenizer(one: Estimates) -> Cost:
    """The tokenizer; that of a GGUF file is read with its weights."""
    plain = _light(one, 0.6)
    if not _is_gguf(base_model(one.study, "teacher")):
        return plain
    read = 4 * one.shape("teacher").weights
    return replace(
        plain,
        seconds=plain.seconds + _GGUF_PASSES * read / one.cpu.read_bytes,
        host_mb=plain.host_mb + read / MIB,
    )


def select_checkpoint(one: Estimates, system: str) -> Cost:
    """Scores of dev answers, and the digest of the chosen weights."""
    weights = bytes_of(one.study.deepspeed.precision) * one.model(system).weights
    return _light(one, 0.15 + _DIGEST_PASSES * weights / one.cpu.read_bytes)


def make_base(one: Estimates, role: str) -> Cost:
    """A base: pretrained where it is a scratch model, else converted by one process."""
    study, settings, shape, model = one.study, one.study.deepspeed, one.shape(role), base_model(one.study, role)
    disk = 4 * shape.weights
    if not isinstance(model, ScratchModel):
        is_gguf = _is_gguf(model)
        seconds = one.cpu.start["train"] + ((_GGUF_PASSES if is_gguf else 0) + 10) * disk / one.cpu.read_bytes
        return Cost(seconds, PROCESS_MB["train"] + (1 + is_gguf) * disk / MIB, disk_mb=disk / MIB)
    training, tokens, rates = model.pretraining, study.data.plain_text_tokens, one.rates(settings.device)
    rows = one.rows_of("data.plain_text", study.data.plain_text, UNKNOWN_ROWS)
    updates, calls = updates_of(training, rows), training.batch / training.micro_batch
    read = Part(Pass(training.batch, tokens, training.batch * (tokens - 1)), calls)
    memory = training_memory(
        shape,
        training.micro_batch * tokens,
        training.micro_batch * tokens,
        [],
        precision=settings.precision,
        zero_stage=settings.zero_stage,
        processes=settings.processes,
        recomputed=settings.gradient_checkpointing,
    )
    seconds = updates * training_seconds(shape, read, rates, settings.precision)
    start = settings.processes * rates.start["train"]
    state = 2 * 12 * shape.weights
    return _placed(settings.device, seconds, start, memory, disk, "train", settings.processes, disk=disk, state=state)


def _engine(one: Estimates, shape: Shape, longest: float, seconds: float, disk: float, loaded: float = 0.0) -> Cost:
    """Returns the cost of a job of the text engine; `loaded`: bytes of host memory besides."""
    sampling = one.study.sampling
    dtype, on_gpu, width = sampling.dtype, sampling.device == "cuda", sampling.tensor_parallel
    workers = width * sampling.processes
    memory = engine_memory(shape, dtype, sampling.max_sequences, longest) / width
    total = one.study.device_memory_gb
    if on_gpu and total:  # vLLM's cache takes the share that it is given, whatever it needs
        memory = max(
            bytes_of(dtype) * shape.weights / width, min(memory, sampling.gpu_memory_utilization * total * 1e9)
        )
    software: Software = "vllm" if sampling.engine == "vllm" else "train"
    if not on_gpu:
        memory = bytes_of(dtype) * shape.weights / width + (sampling.kv_cache_gib * 2**30 if software == "vllm" else 0)
    start = workers * one.cpu.start[software]
    if software == "vllm":
        start += sampling.processes * _ENGINE_PASSES * bytes_of(dtype) * shape.weights / one.cpu.read_bytes
    return _placed(sampling.device, seconds, start, memory, loaded, software, workers, disk=disk)


def sample_teacher(one: Estimates, shard: str) -> Cost:
    """A shard of the teacher's samples."""
    samples, sampling, shape = one.study.teacher_samples, one.study.sampling, one.shape("teacher")
    prompts = sum(one.sampled_prompts) / samples.shards
    answers, mean = prompts * samples.per_prompt, one.sample_tokens
    rates = one.rates(sampling.device)
    seconds = engine_seconds(shape, prompts, answers, one.prompt, mean, rates, sampling.dtype)
    longest = one.study.data.max_prompt_tokens + samples.max_new_tokens
    return _engine(one, shape, longest, seconds, answers * (8 * (one.prompt + mean) + 100))


def build_candidates(one: Estimates, shard: str) -> Cost:
    """A shard of the teacher's candidate sets: its forward pass, and the sort of its probabilities."""
    study, settings, shape = one.study, one.study.deepspeed, one.shape("teacher")
    answers = sum(one.sampled_prompts) * one.per_prompt / study.teacher_samples.shards
    mean, batch, rates = one.sample_tokens, study.candidates.batch, one.rates(settings.device)
    read = Part(Pass(answers, one.prompt + mean, answers * (mean + 1)), answers / batch)
    seconds = forward_seconds(shape, read, rates, settings.precision)
    # Softmax and sort read and write each probability about five times.
    seconds += 5 * 4 * answers * (mean + 1) * shape.vocabulary / rates.read_bytes
    memory = frozen_memory(shape, batch * (mean + 1), settings.precision)
    # performance.md: 48 bytes a token at p = 0.8, 412 at 0.95.
    disk = answers * (mean + 1) * (48 if study.candidates.p_max <= 0.8 else 412)
    start = settings.processes_a_node * rates.start["train"]
    return _placed(settings.device, seconds, start, memory, 0, "train", settings.processes_a_node, disk=disk)


def _scored_pairs(one: Estimates, shape: Shape, pairs: int, workers: int = 1) -> Cost:
    settings = one.study.deepspeed
    assert one.study.preferences is not None
    batch, rates = 2 * one.study.preferences.values.batch, one.rates(settings.device)
    read = Part(Pass(2 * pairs, one.prompt + one.response, 2 * pairs * one.response), 2 * pairs / batch)
    seconds = forward_seconds(shape, read, rates, settings.precision)
    memory = frozen_memory(shape, batch * one.response, settings.precision)
    disk = 8 * pairs * one.response
    return _placed(settings.device, seconds, workers * rates.start["train"], memory, 0, "train", workers, disk=disk)


def build_values(one: Estimates) -> Cost:
    """The teacher's values along the training pairs."""
    return _scored_pairs(one, one.shape("teacher"), one.pairs["train"], one.study.deepspeed.processes_a_node)


def rank_pairs(one: Estimates, system: str) -> Cost:
    """A system's log-probabilities of the test pairs."""
    return _scored_pairs(one, one.model(system), one.pairs["test"])


def validate_run(one: Estimates, system: str) -> Cost:
    """Answers to dev prompts of every checkpoint, and of a start that is no base."""
    study, run, shape = one.study, run_of(one.study, system), one.model(system)
    candidates = -(-one.updates(system) // run.training.evaluate_every) + bool(start_of(study, system))
    rows = candidates * min(study.generation.dev_rows or one.dev_rows, one.dev_rows)
    longest = study.generation.max_new_tokens
    mean, rates = one.answer(longest), one.rates(study.sampling.device)
    seconds = engine_seconds(shape, rows, rows, one.prompt, mean, rates, study.sampling.dtype)
    seconds += candidates * bytes_of(study.sampling.dtype) * shape.weights * 10 / one.cpu.read_bytes
    return _engine(one, shape, study.data.max_prompt_tokens + longest, seconds, rows * _ROW_BYTES / 4)


def answers_of(one: Estimates) -> dict[str, int]:
    """Returns a system's answers to each evaluation set, all decodings and seeds together."""
    generation = one.study.generation
    ways = sum(len(generation.seeds) if own.temperature > 0 else 1 for own in generation.decodings.values())
    return {name: rows * ways for name, rows in one.test_rows.items()}


def generate_responses(one: Estimates, system: str) -> Cost:
    """A system's answers to every set, and the entropy along those of the primary decoding's first seed, in float32."""
    study, shape, sampling = one.study, one.model(system), one.study.sampling
    rates, seconds, longest = one.rates(sampling.device), 0.0, 0
    for name, answers in answers_of(one).items():
        limit = study.data.evaluation[name].max_new_tokens or study.generation.max_new_tokens
        mean, rows = one.answer(limit), one.test_rows[name]
        seconds += engine_seconds(shape, answers, answers, one.prompt, mean, rates, sampling.dtype)
        read = Part(Pass(rows, one.prompt + mean, rows * mean), rows / 32)
        seconds += forward_seconds(shape, read, rates, "fp32")
        longest = max(longest, limit)
    answers = sum(answers_of(one).values())
    # The engine lives in the same process while the entropy is measured.
    loaded = frozen_memory(shape, 32 * one.answer(longest), "fp32") if sampling.device == "cpu" else 0
    return _engine(one, shape, study.data.max_prompt_tokens + longest, seconds, answers * _ROW_BYTES / 3, loaded)


def measure_efficiency(one: Estimates) -> Cost:
    """A start of each selected model, its answers one at a time, and six times all at once; libraries start once."""
    study, sampling = one.study, one.study.sampling
    first = next(iter(study.data.evaluation))
    rows = min(study.efficiency.prompts, one.test_rows[first])
    longest = study.data.evaluation[first].max_new_tokens or study.generation.max_new_tokens
    mean, rates = one.answer(longest), one.rates(sampling.device)
    own = []
    for system in measured_systems(study):
        shape = one.model(system)
        seconds = rollout_seconds([shape], rows, 1, one.prompt, round(mean), mean, rates, sampling.dtype)
        seconds += engine_seconds(shape, 6 * rows, 6 * rows, one.prompt, mean, rates, sampling.dtype)
        own.append(_engine(one, shape, study.data.max_prompt_tokens + longest, seconds, _ROW_BYTES))
    start = one.cpu.start["vllm" if sampling.engine == "vllm" else "train"]
    seconds = sum(cost.seconds for cost in own) - _LOADED_SHARE * start * sampling.tensor_parallel * (len(own) - 1)
    most = {name: max(getattr(cost, name) for cost in own) for name in ("host_mb", "device_mb")}
    return Cost(seconds, **most, disk_mb=sum(cost.disk_mb for cost in own))


def _light(one: Estimates, seconds: float = 0.0, disk: float = 0.0) -> Cost:
    return Cost(one.cpu.start["light"] + seconds, PROCESS_MB["light"], disk_mb=disk / MIB)


def light(one: Estimates, **wildcards: str) -> Cost:
    """A stage that reads and writes a few files."""
    return _light(one, 0.3)


def split_data(one: Estimates) -> Cost:
    """The split tokenizes every row once."""
    rows = one.instruction_rows
    return _light(one, 4e-4 * rows, rows * _ROW_BYTES)


def score_responses(one: Estimates, system: str) -> Cost:
    """The metric of each answer."""
    answers = sum(answers_of(one).values())
    return _light(one, 2e-4 * answers, answers * 100)


def judge_pair(one: Estimates, first: str, second: str) -> Cost:
    """Both orders of each prompt, as a paid judge would be asked: prompt, two answers, the wording; one verdict.

    The money is that of kind openai, also where `auto` may come down to overlap.
    """
    judge, study = one.study.judge, one.study
    rows = one.test_rows[judge.dataset]
    asked = 2 * min(judge.prompts or rows, rows)
    longest = study.data.evaluation[judge.dataset].max_new_tokens or study.generation.max_new_tokens
    tokens = _JUDGE_TOKENS + one.prompt + 2 * one.answer(longest)
    usd = asked * (
        tokens * judge.price_per_million_input_tokens + judge.reply_tokens * judge.price_per_million_output_tokens
    )
    usd *= (judge.batch_price if judge.batch else 1.0) / 1e6
    light = _light(one, 8e-4 * asked, asked * 400)
    return Cost(light.seconds, light.host_mb, disk_mb=light.disk_mb, usd=0.0 if judge.kind == "overlap" else usd)


def ask_teacher(one: Estimates) -> Cost:
    """Each prompt once, and all answers to it."""
    teacher, samples = one.study.teacher, one.study.teacher_samples
    assert isinstance(teacher, ApiTeacher), "no other teacher is asked"
    asked = sum(one.sampled_prompts)
    tokens = teacher.price_per_million_input_tokens * one.prompt
    tokens += teacher.price_per_million_output_tokens * samples.per_prompt * one.sample_tokens
    light = _light(one, 8e-4 * asked, asked * samples.per_prompt * _ROW_BYTES)
    return Cost(light.seconds, light.host_mb, disk_mb=light.disk_mb, usd=asked * tokens / 1e6)


def make_tables(one: Estimates) -> Cost:
    """Bootstraps of every comparison."""
    return _light(one, 0.5 * len(one.study.systems))


def draw_figures(one: Estimates) -> Cost:
    """A figure a plot."""
    return _light(one, 1 + 0.2 * len(one.study.systems))
