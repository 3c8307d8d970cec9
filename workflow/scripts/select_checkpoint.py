"""Selects one checkpoint of a training run by its dev scores and publishes it as the run's model."""

from importlib import import_module

from distill.config.stages.student import SelectCheckpoint
from distill.evaluation.selection import select
from distill.files import read_jsonl, write_json
from distill.provenance.stage import Job, run_stage
from distill.training.checkpoints import DEV, link_files, read_checkpoints

SCORER = "distill.evaluation.dev_scores"
"""Loaded by name where a run selects by dev Rouge-L, so that an edit of a metric reruns no other choice."""


def select_checkpoint(job: Job) -> None:
    """Writes the selected checkpoint's files (hard links) and selection.json with every candidate's score."""
    settings: SelectCheckpoint = job.settings
    run = job.input("run")
    checkpoints = read_checkpoints(run)
    losses = {row["step"]: row["loss"] for _, row in read_jsonl(run / DEV)}
    validation = job.optional_input("validation")
    rouge = import_module(SCORER).score_checkpoints(validation, job.input("dev")) if validation else {}
    scores = {
        update: {"dev_loss": losses[update]} | ({"dev_rouge": rouge[update]} if validation else {})
        for update in checkpoints
    }
    chosen = select(settings.rule, scores)
    link_files(checkpoints[chosen], job.output)
    selection = {"run": settings.name, "rule": settings.rule, "split": "dev", "update": chosen, "scores": scores}
    write_json(job.output / "selection.json", selection)
    job.notes |= {"rule": settings.rule, "update": chosen}


if __name__ == "__main__":
    run_stage(select_checkpoint, __doc__, inputs=("run", "validation", "dev"), settings=SelectCheckpoint)
