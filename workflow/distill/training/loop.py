"""The training loop of every stage: deterministic batches, exact global means, checkpoints, resuming after a kill."""

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from distill.checkpoints import CHECKPOINTS, DEV, DEV_ITEMS, METRICS, checkpoint_name
from distill.config.training import Training
from distill.errors import DistillError
from distill.files import link_or_copy, read_json, seal_folder, write_json
from distill.losses.states import States
from distill.losses.terms import add_up
from distill.models.packing import PackedBatch
from distill.seeds import stage_seed
from distill.training.engine import TrainingEngine
from distill.training.order import batch_indices
from distill.training.task import Task

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


class _Log:
    """JSONL files in the state folder, cut back to the saved step when a run resumes."""

    def __init__(self, folder: Path):
        self.folder = folder

    def append(self, name: str, rows: list[dict]) -> None:
        with open(self.folder / name, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    def cut(self, last_step: int) -> None:
        for name in (METRICS, DEV, DEV_ITEMS):
            path = self.folder / name
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
            # A kill can tear the last line; it is newer than any saved step.
            whole = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= last_step]
            path.write_text("".join(whole), encoding="utf-8")


def train(
    engine: TrainingEngine, task: Task, plan: TrainingPlan, state: Path, save: Callable[[Path], None], output: Path
) -> int:
    """Trains to the plan's end and links checkpoints and logs into `output`; returns how often the run was resumed.

    A checkpoint, a dev evaluation and the resumable state are saved every `evaluate_every` updates and at the end.
    After a kill the run continues from the newest complete state and gives the same weights as an uninterrupted one
    (CPU, fp32).

    Args:
        engine: the model under DeepSpeed.
        task: the method's items and losses.
        plan: seeds and length.
        state: folder that outlives a kill.
        save: writes the model to a Hugging Face folder.
        output: the stage's output folder.

    Raises:
        DistillError: the loss is not finite.
    """
    log, main = _Log(state), engine.rank == 0
    resume = read_json(state / "resume.json") if (state / "resume.json").is_file() else {"step": -1, "resumes": -1}
    start, resumes = max(resume["step"], 0), resume["resumes"] + 1
    if main:
        log.cut(resume["step"])
    if resume["step"] > 0:
        engine.load_state(state / "deepspeed", checkpoint_name(start))
        task.load(state / "task" / checkpoint_name(start))
    engine.wait()

    def checkpoint(step: int) -> None:
        # The others wait for the first one's loss, which every task hears.
        loss = evaluate(step) if main else 0.0
        task.evaluated(step, engine.sum_over_ranks([loss])[0])
        if step:
            engine.save_state(state / "deepspeed", checkpoint_name(step))
        if main and step:
            own = state / "task" / checkpoint_name(step)
            own.mkdir(parents=True, exist_ok=True)
            task.save(own)
            folder = state / CHECKPOINTS / checkpoint_name(step)
            shutil.rmtree(folder, ignore_errors=True)
            save(folder)
            seal_folder(folder)
            write_json(state / "resume.json", {"step": step, "resumes": resumes})
            for kind in ("deepspeed", "task"):
                for old in (state / kind).glob("step-*"):
                    if old.name != checkpoint_name(step):
                        shutil.rmtree(old)
        engine.wait()

    @torch.no_grad()
    def evaluate(step: int) -> float:
        engine.model.eval()
        loss, rows = task.evaluate(engine.model)
        engine.model.train()
        log.append(DEV, [{"step": step, "loss": loss}])
        log.append(DEV_ITEMS, [{"step": step, **row} for row in rows])
        return loss

    if resume["step"] < 0:
        checkpoint(0)
    # Closed on an error too: the bar must not print behind the error's line.
    with tqdm(
        total=plan.steps, initial=start, desc=plan.stage, unit="step", mininterval=10, disable=not main
    ) as progress:
        for step in range(start, plan.steps):
            torch.manual_seed(stage_seed(plan.seed, plan.stage, "dropout", step, engine.rank))
            row = _update(engine, task, plan, step)
            if main:
                log.append(METRICS, [{"step": step + 1, **row}])
            progress.update()
            if (step + 1) % plan.training.evaluate_every == 0 or step + 1 == plan.steps:
                checkpoint(step + 1)
    if main:
        for path in sorted(state.rglob("*")):
            kept = path.relative_to(state).parts[0] in (CHECKPOINTS, METRICS, DEV, DEV_ITEMS)
            if path.is_file() and kept:
                target = output / path.relative_to(state)
                target.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(path, target)
    return resumes


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

    learning_rate = engine.learning_rate
    for micro in micro_batches:
        terms = task.losses(forward, micro, step)
        loss = add_up(task.coefficients[name] * term.total / weight[name] for name, term in terms.items())
        if not torch.isfinite(loss):
            raise DistillError(
                f"{plan.stage}: expected a finite loss, found {loss.item()} at update {step + 1}; "
                "lower the learning rate or use fp32"
            )
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
    return means | {
        "learning_rate": learning_rate,
        "gradient_norm": engine.gradient_norm,
        "tokens": int(tokens),
        "tokens_per_second": round(tokens / seconds, 1),
        "seconds": round(seconds, 4),
    }
