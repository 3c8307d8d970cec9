"""Runs one method: its start model, its data, its engine, and the loop."""

from functools import cache, partial
from pathlib import Path
from typing import Any

from distill.checkpoints import DATA_SEEN
from distill.config.base import expand_path
from distill.config.keys import run_key
from distill.config.slices.train_run import TrainRun
from distill.config.training import Length
from distill.files import read_json, write_json
from distill.methods.needs import NEEDED_INPUTS, SHARED_INPUTS
from distill.methods.registry import load_method, method_section
from distill.models.load import load_model, save_model
from distill.models.packed import PackedModel
from distill.records import read_samples
from distill.rollouts.engine_process import EngineProcess
from distill.sampling.protocol import EngineSettings
from distill.training.context import MethodContext
from distill.training.data_seen import data_seen
from distill.training.engine import TrainingEngine, local_device
from distill.training.loop import TrainingPlan, train
from distill.training.order import plan_steps


def train_method(
    settings: TrainRun,
    inputs: dict[str, list[Path]],
    state: Path,
    output: Path,
    minutes: float,
    tracker: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """Trains a run from its start model and writes checkpoints and logs; returns notes for the record.

    Args:
        settings: the run's slice of the config.
        inputs: sealed folders by input: the shared ones, one each, and those of the run's needs.
        state: folder that outlives a kill.
        output: the stage's output folder.
        minutes: between two saves of the state by the clock.
        tracker: package and project of what shows the curves beside TensorBoard, if there is one.
    """
    shared = {name: inputs[name][0] for name in SHARED_INPUTS}
    needed = {name: inputs[name] for name in NEEDED_INPUTS if inputs[name]}
    vocabulary = read_json(shared["vocabulary"] / "vocabulary.json")
    method, deepspeed = settings.run["method"], settings.deepspeed
    plugin = expand_path(settings.plugin, "plugins") if settings.plugin else None
    run = method_section(method, plugin).model_validate(settings.run)
    training = run.training
    device = local_device(deepspeed)
    if settings.updates_of is not None:
        training = training.model_copy(
            update={"steps": _updates(settings.updates_of, settings.name, needed), "epochs": None}
        )

    def load_frozen(name: str) -> PackedModel:
        dtype = "bfloat16" if deepspeed.precision == "bf16" else "float32"
        (folder,) = inputs[name]
        return PackedModel(load_model(folder, dtype), vocabulary["size"]).to(device).eval()

    rollouts = settings.rollouts
    context = MethodContext(
        name=settings.name,
        seed=settings.seed,
        run=run,
        wrapper=settings.wrapper,
        plain_text_tokens=settings.plain_text_tokens,
        labelled_rows=settings.labelled_rows,
        prompts=settings.prompts,
        load_frozen=load_frozen,
        load_teacher=cache(partial(load_frozen, "teacher")),
        device=device,
        rollout_engine=None
        if rollouts is None
        else EngineProcess(
            rollouts.python,
            EngineSettings(**rollouts.settings),
            vocabulary["size"],
            shared["tokenizer"],
        ),
        inputs=needed,
        **{name: shared[name] for name in ("split", "dev", "tokenizer")},
    )
    task = load_method(method, plugin).build_task(context)
    steps = plan_steps(training, task.items, run_key(settings.name))
    model = load_model(shared["start"])
    packed = PackedModel(model, vocabulary["size"])
    if not run.dropout:
        packed.disable_dropout()
    engine = TrainingEngine(packed, training, deepspeed, steps)
    plan = TrainingPlan(settings.seed, settings.name, training, steps)

    def save(folder: Path) -> None:
        save_model(model, shared["tokenizer"], folder)

    resumes = train(engine, task, plan, state, save, output, minutes, tracker)
    if engine.rank == 0:
        write_json(output / DATA_SEEN, data_seen(task, plan))
    return {"updates": steps, "items": task.items, "resumes": resumes}


def _updates(length: Length, name: str, inputs: dict[str, list[Path]]) -> int:
    """Returns the updates of the run that run `name` copies; in epochs they depend on the number of samples."""
    if length.steps is not None:
        return length.steps
    (samples,) = inputs["samples"]
    items = sum(not sample.held_out for sample in read_samples(samples / "samples.jsonl"))
    return plan_steps(length, items, f"{run_key(name)}.updates_of")
