"""Selects one checkpoint of a training run, or its start, by dev scores and publishes it as the run's model."""

from importlib import import_module

from distill.config.stages.student import SelectCheckpoint
from distill.evaluation.selection import select
from distill.files import read_jsonl, write_json
from distill.provenance.stage import Job, run_stage
from distill.training.checkpoints import DEV, SELECTION, link_files, read_candidates

SCORER = "distill.evaluation.dev_scores"
"""Loaded by name where a run selects by dev Rouge-L, so that an edit of a metric reruns no other choice."""


def select_checkpoint(job: Job) -> None:
    """Writes the selected candidate's files (hard links) and selection.json with every candidate's score."""
    settings: SelectCheckpoint = job.settings
    run = job.input("run")
    candidates = read_candidates(run, job.optional_input("start"))
    losses = {row["step"]: row["loss"] for _, row in read_jsonl(run / DEV)}
    validation = job.optional_input("validation")
    rouge = import_module(SCORER).score_checkpoints(validation, job.input("dev")) if validation else {}
    scores = {
        update: {"dev_loss": losses[update]} | ({"dev_rouge": rouge[update]} if validation else {})
        for update in candidates
    }
    chosen = select(settings.rule, scores)
    link_files(candidates[chosen], job.output)
    choice = {"rule": settings.rule, "update": chosen, "keeps_start": chosen == 0}
    write_json(job.output / SELECTION, {"run": settings.name, "split": "dev", **choice, "scores": scores})
    job.notes |= choice
    if choice["keeps_start"]:
        print(f"{settings.name}: by {settings.rule} no checkpoint is better than its start, which it keeps")


if __name__ == "__main__":
    run_stage(select_checkpoint, __doc__, inputs=("start", "run", "validation", "dev"), settings=SelectCheckpoint)
