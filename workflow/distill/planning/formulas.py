"""Time, memory and disk of the stages that run models, by formula; seconds are those of one device or CPU thread."""

from dataclasses import dataclass

from distill.planning.rates import Rates
from distill.planning.shapes import Shape

LOGITS = 2**26
"""Logits that a loss forms at a time (`distill.losses.states`)."""
FORWARD = 1.5
"""How much faster than a training a pass without gradients runs, of the records of presets/smollm2.yaml."""
MIB = 2**20
PROCESS_MB = {"light": 110, "train": 430, "vllm": 760}
"""Memory of a process by software family before it has a model, of the embedded study's records."""


@dataclass(frozen=True)
class Cost:
    """What one job costs.

    Attributes:
        seconds: of one device, or of one CPU thread, all processes together.
        host_mb: peak memory, all processes together.
        device_mb: peak memory of a GPU; 0 without one.
        disk_mb: what stays.
        state_mb: what is kept beside it while the job runs.
        usd: of a paid judge.
    """

    seconds: float = 0.0
    host_mb: float = 0.0
    device_mb: float = 0.0
    disk_mb: float = 0.0
    state_mb: float = 0.0
    usd: float = 0.0


@dataclass(frozen=True)
class Pass:
    """What one forward pass reads: sequences of a mean length, and the states whose logits are formed, in all."""

    sequences: float
    tokens: float
    states: float

    def flops(self, shape: Shape) -> float:
        """Returns 2 N_ne n + 2 L d n^2 + 2 V d rows a sequence of n tokens; a training step takes three times that."""
        read = self.sequences * self.tokens
        return (
            2 * shape.blocks * read + 2 * shape.layers * shape.width * read * self.tokens + 2 * shape.head * self.states
        )


@dataclass(frozen=True)
class Part:
    """One sequence kind of an update's batch: the pass of the whole batch, and how many forward passes it takes."""

    whole: Pass
    calls: float


def forward_seconds(shape: Shape, part: Part, rates: Rates, precision: str) -> float:
    """Returns the time of forward passes: FLOP, and the start of each block of each pass (the head counts as one)."""
    return part.whole.flops(shape) / (FORWARD * rates.flops(precision)) + part.calls * (shape.layers + 1) * rates.layer


def training_seconds(shape: Shape, part: Part, rates: Rates, precision: str) -> float:
    """Returns the time of forward and backward passes: three times the FLOP, five times the starts (with AdamW's)."""
    return 3 * part.whole.flops(shape) / rates.flops(precision) + 5 * part.calls * (shape.layers + 1) * rates.layer


def rollout_seconds(
    models: list[Shape],
    answers: float,
    batch: int,
    prompt: float,
    longest: int,
    mean: float,
    rates: Rates,
    precision: str,
) -> float:
    """Returns the time in which models answer together in the training's process, one token of a batch at a time.

    Args:
        models: that each step runs.
        answers: in all; `batch` at a time.
        prompt, longest, mean: tokens of a prompt, and the most and the mean of an answer.
    """
    steps, total = answers / batch * longest, 0.0
    for shape in models:
        read = Pass(answers, prompt + mean, answers * mean)
        total += read.flops(shape) / rates.flops(precision)
        total += steps * ((shape.layers + 1) * rates.layer + shape.weights * bytes_of(precision) / rates.read_bytes)
    return total


def engine_seconds(shape: Shape, prompts: float, answers: float, prompt: float, mean: float, rates: Rates, dtype: str):
    """Returns the time in which an engine reads prompts, each once, and writes answers of a mean length."""
    read = Pass(prompts, prompt, 0).flops(shape) + Pass(answers, mean, answers * mean).flops(shape)
    return read / rates.flops(dtype) + answers * mean * rates.token


def bytes_of(precision: str) -> int:
    """Returns the bytes of a number: 2 of bf16 or bfloat16, 4 of fp32 or float32."""
    return 2 if precision.startswith("b") else 4


def weight_state_bytes(precision: str, zero_stage: int, processes: int) -> float:
    """Returns the bytes a weight that training holds on each process.

    fp32: weight, gradient and AdamW's two moments, 16. bf16: 2 + 2, and float32 master weight, moments and gradient, 20
    without ZeRO; ZeRO 1 shares the float32 part: 4 + 12 / processes; ZeRO 2 the gradient too: 2 + 14 / processes.
    """
    if precision == "fp32":
        own, shared = (16, 0) if zero_stage == 0 else (8, 8) if zero_stage == 1 else (4, 12)
    else:
        own, shared = (20, 0) if zero_stage == 0 else (4, 12) if zero_stage == 1 else (2, 14)
    return own + shared / processes


def activation_bytes(shape: Shape, tokens: float, precision: str, recomputed: bool) -> float:
    """Returns what a backward pass keeps of a micro-batch: 34 bytes x layers x tokens x width in half precision.

    Recomputed (`gradient_checkpointing`) it is each block's input, and one block's whole.
    """
    whole = 17 * bytes_of(precision) * tokens * shape.width
    return whole + shape.layers * bytes_of(precision) * tokens * shape.width if recomputed else shape.layers * whole


def logits_bytes(shape: Shape, states: float, teachers: int = 0) -> float:
    """Returns float32 logits of at most `LOGITS` at a time, two copies, as many again for each teacher's, and the
    float32 gradient of the output matrix."""
    return 4 * (2 * (1 + teachers) * min(states * shape.vocabulary, LOGITS) + shape.head)


def training_memory(
    shape: Shape,
    tokens: float,
    states: float,
    teachers: list[Shape],
    *,
    precision: str,
    zero_stage: int,
    processes: int,
    recomputed: bool,
) -> float:
    """Returns the bytes that a process of a training holds on its device.

    Args:
        shape: the model in training.
        tokens, states: of a micro-batch, and those whose logits are formed.
        teachers: models held beside it.
    """
    held = shape.weights * weight_state_bytes(precision, zero_stage, processes)
    held += sum(teacher.weights for teacher in teachers) * bytes_of(precision)
    return held + activation_bytes(shape, tokens, precision, recomputed) + logits_bytes(shape, states, len(teachers))


def frozen_memory(shape: Shape, states: float, precision: str) -> float:
    """Returns the bytes of a model that only reads, of its file as it is loaded, and of its logits."""
    return 2 * shape.weights * bytes_of(precision) + 4 * 2 * min(states * shape.vocabulary, LOGITS)


def engine_memory(shape: Shape, dtype: str, sequences: int, tokens: float) -> float:
    """Returns the bytes of an engine's weights, and of the cache of all sequences at their longest."""
    return bytes_of(dtype) * (shape.weights + sequences * tokens * shape.cached_values)
