"""Selects one checkpoint of a training run by its dev scores and publishes it as the run's model."""

from distill.config.stages import SelectCheckpoint
from distill.evaluation.selection import select
from distill.files import read_json, read_jsonl, write_json
from distill.provenance.stage import Job, run_stage
from distill.training.checkpoints import DEV, link_files, read_checkpoints


def select_checkpoint(job: Job) -> None:
    """Writes the selected checkpoint's files (hard links) and selection.json with every candidate's score."""
    settings: SelectCheckpoint = job.settings
    run = job.input("run")
    checkpoints = read_checkpoints(run)
    losses = {row["step"]: row["loss"] for _, row in read_jsonl(run / DEV)}
    validation = job.optional_input("validation")
    rouge = read_json(validation / "validation.json") if validation else {}
    scores = {
        update: {"dev_loss": losses[update]} | ({"dev_rouge": rouge[str(update)]} if validation else {})
        for update in checkpoints
    }
    chosen = select(settings.rule, scores)
    link_files(checkpoints[chosen], job.output)
    selection = {"run": settings.name, "rule": settings.rule, "split": "dev", "update": chosen, "scores": scores}
    write_json(job.output / "selection.json", selection)
    job.notes |= {"rule": settings.rule, "update": chosen}


if __name__ == "__main__":
    run_stage(select_checkpoint, __doc__, inputs=("run", "validation"), settings=SelectCheckpoint)
