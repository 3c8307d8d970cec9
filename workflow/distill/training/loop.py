"""The training loop of every stage: deterministic batches, exact global means, checkpoints, resuming after a kill."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from distill.checkpoints import DEV, DEV_ITEMS, METRICS
from distill.config.training import Training
from distill.errors import DataError, DistillError
from distill.losses.states import States
from distill.losses.terms import LossTerms, add_up
from distill.models.packing import PackedBatch
from distill.progress import Progress
from distill.seeds import stage_seed
from distill.stopping import Stopped, deferred, requested
from distill.training.curves import Curves
from distill.training.engine import TrainingEngine
from distill.training.order import batch_indices
from distill.training.saved_state import SavedState
from distill.training.task import Task

_SHOWN = 16
"""Items that an error names."""
_COUNT = ":count"


@dataclass(frozen=True)
class TrainingPlan:
    """What must not change while a stage is resumed: its seeds and its length in updates."""

    seed: int
    stage: str
    training: Training
    steps: int

    def indices(self, step: int, items: int) -> list[int]:
        """Returns the items of update `step`, of all ranks."""
        return batch_indices(step, items, self.training.batch, self.seed, self.stage, "order")


def train(
    engine: TrainingEngine,
    task: Task,
    plan: TrainingPlan,
    state: Path,
    save: Callable[[Path], None],
    output: Path,
    minutes: float,
    tracker: tuple[str, str] | None = None,
) -> int:
    """Trains to the plan's end and puts checkpoints and logs into `output`; returns how often the run was resumed.

    A checkpoint, a dev evaluation and the resumable state are saved every `evaluate_every` updates and at the end; the
    state alone every so many minutes, and where the stage is asked to stop. After a kill the run continues from the
    newest sound state and gives the same weights as an uninterrupted one (CPU, fp32).

    Args:
        engine: the model under DeepSpeed.
        task: the method's items and losses.
        plan: seeds and length.
        state: folder that outlives a kill, in `.state` of the study, whose `curves` hold those of the training.
        save: writes the model to a Hugging Face folder.
        output: the stage's output folder.
        minutes: between two saves by the clock.
        tracker: package and project of what shows the curves beside TensorBoard, if there is one.

    Raises:
        DistillError: a loss or a gradient is not finite.
        DataError: a checkpoint was changed while the training ran, or a state was sealed by another program.
        Stopped: it was asked to stop, and has saved.
    """
    saved, main = SavedState(state, plan.stage, minutes), engine.rank == 0
    if main:
        saved.open()
    start = int(engine.largest_over_ranks(saved.step))
    if start > 0:
        ours, tasks = saved.folders(start)
        try:
            engine.load_state(ours)
            task.load(tasks)
        except Exception as error:  # the seal holds, so somebody wrote and sealed other things
            raise DataError(
                f"{ours.parent}: expected a state that this training saved, found {error!r}; delete {state} and rerun"
            ) from error

    def save_state(step: int) -> None:
        with saved.saving(step) if main else nullcontext(saved.folders(step)) as (ours, tasks):
            engine.save_state(ours)
            if main:
                task.save(tasks)
        engine.wait()

    def checkpoint(step: int) -> None:
        # The others wait for the first one's loss, which every task hears.
        loss = evaluate(step) if main else 0.0
        task.evaluated(step, engine.sum_over_ranks([loss])[0])
        if step:
            if main:
                saved.add_checkpoint(step, save)
            save_state(step)

    @torch.no_grad()
    def evaluate(step: int) -> float:
        engine.model.eval()
        loss, rows = task.evaluate(engine.model)
        engine.model.train()
        saved.append(DEV, [{"step": step, "loss": loss}])
        saved.append(DEV_ITEMS, [{"step": step, **row} for row in rows])
        return loss

    if start < 0:
        checkpoint(0)
    options = {"seed": plan.seed, "updates": plan.steps, **plan.training.model_dump(mode="json")}
    # Closed on an error too: the bar must not print behind the error's line.
    with (
        deferred(),
        Curves(saved, tracker, options) if main else nullcontext(),
        Progress(total=plan.steps, initial=max(start, 0), desc=plan.stage, unit="update", disable=not main) as progress,
    ):
        for step in range(max(start, 0), plan.steps):
            torch.manual_seed(stage_seed(plan.seed, plan.stage, "dropout", step, engine.rank))
            row = _update(engine, task, plan, step)
            if main:
                saved.append(METRICS, [{"step": step + 1, **row}])
            progress.set_postfix_str(f"loss {row['loss']:.4g}, {row['tokens_per_second']:,.0f} tokens/s", refresh=False)
            progress.update()
            is_last = step + 1 == plan.steps
            # A signal may have reached some processes alone, and the clock is the first one's.
            stop, is_due = divmod(int(engine.largest_over_ranks(2 * requested() + (main and saved.is_due()))), 2)
            if is_last or (step + 1) % plan.training.evaluate_every == 0:
                checkpoint(step + 1)
            elif stop or is_due:
                save_state(step + 1)
            if stop and not is_last:
                raise Stopped(stop)
    if main:
        saved.publish(output)
    return saved.resumes


def _update(engine: TrainingEngine, task: Task, plan: TrainingPlan, step: int) -> dict[str, float]:
    """Runs one optimiser update and returns its log row: loss, parts, metrics, rate, tokens, speed."""
    began = time.perf_counter()
    training = plan.training
    indices = plan.indices(step, task.items)
    task.prepare(engine, step, indices)
    mine = indices[engine.rank :: engine.world]
    micro_batches = [mine[i : i + training.micro_batch] for i in range(0, len(mine), training.micro_batch)]

    names = list(task.coefficients)
    counts = [task.weights(micro, step) for micro in micro_batches]
    totals = engine.sum_over_ranks([sum(count[name] for count in counts) for name in names])
    weight = {name: max(total, 1.0) for name, total in zip(names, totals, strict=True)}

    sums: dict[str, float] = defaultdict(float)

    def forward(batch: PackedBatch) -> States:
        sums["tokens"] += len(batch.input_ids)
        return engine.forward(batch)

    learning_rate, faults = engine.learning_rate, list[str]()
    for micro in micro_batches:
        terms = task.losses(forward, micro, step)
        loss = add_up(task.coefficients[name] * term.total / weight[name] for name, term in terms.items())
        if not torch.isfinite(loss):
            faults.append(f"{loss.item()} on items {_words(micro)} ({_words(_parts(terms, weight))})")
        # Behind the last share the optimiser steps, in all processes: a fault of one stops them all before.
        if micro is micro_batches[-1] and engine.largest_over_ranks(len(faults)):
            raise _not_finite(plan, step, "loss", engine.gather(faults)[0])
        engine.backward(loss)
        sums["loss"] += loss.item()
        for name, term in terms.items():
            for part, value in term.parts.items():
                sums[f"{name}/{part}"] += value.item() / weight[name]
            for metric, (value, count) in term.metrics.items():
                sums[f"{name}/{metric}"] += float(value)
                sums[f"{name}/{metric}{_COUNT}"] += float(count)
    keys = sorted(sums)
    sums = dict(zip(keys, engine.sum_over_ranks([sums[key] for key in keys]), strict=True))
    tokens, seconds = sums.pop("tokens"), time.perf_counter() - began
    means = {
        key: value / max(sums.get(key + _COUNT, 1.0), 1.0) for key, value in sums.items() if not key.endswith(_COUNT)
    }
    norm = engine.gradient_norm
    if not 0 <= norm < math.inf:  # DeepSpeed also writes -1 for what is not finite
        items = _words(indices)
        raise _not_finite(plan, step, "gradient", f"a norm of {norm} on items {items} ({_words(means)})")
    return means | {
        "learning_rate": learning_rate,
        "gradient_norm": norm,
        "tokens": int(tokens),
        "tokens_per_second": round(tokens / seconds, 1),
        "seconds": round(seconds, 4),
    }


def _parts(terms: dict[str, LossTerms], weight: dict[str, float]) -> dict[str, float]:
    """Returns each term of a micro-batch's loss, and its parts, as shares of the global means."""
    found = {}
    for name, term in terms.items():
        found[name] = term.total.item() / weight[name]
        found |= {f"{name}/{part}": value.item() / weight[name] for part, value in term.parts.items()}
    return found


def _words(values: Sequence[int] | dict[str, float]) -> str:
    """Returns values as words of one short line."""
    if isinstance(values, dict):
        return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    return " ".join(map(str, values[:_SHOWN])) + (f" and {more} more" if (more := len(values) - _SHOWN) > 0 else "")


def _not_finite(plan: TrainingPlan, step: int, what: str, found: str) -> DistillError:
    return DistillError(
        f"{plan.stage}: expected a finite {what}, found {found} at update {step + 1}; what was saved before is kept; "
        "lower the learning rate or use fp32"
    )
