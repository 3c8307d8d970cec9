"""Selects one checkpoint of a training run by its dev scores and publishes it as the run's model."""

from collections import defaultdict
from pathlib import Path
from statistics import fmean

from distill.config.stages.student import SelectCheckpoint
from distill.evaluation.selection import select
from distill.files import read_jsonl, write_json
from distill.metrics import rouge_l
from distill.provenance.stage import Job, run_stage
from distill.records import read_examples
from distill.training.checkpoints import DEV, link_files, read_checkpoints


def select_checkpoint(job: Job) -> None:
    """Writes the selected checkpoint's files (hard links) and selection.json with every candidate's score."""
    settings: SelectCheckpoint = job.settings
    run = job.input("run")
    checkpoints = read_checkpoints(run)
    losses = {row["step"]: row["loss"] for _, row in read_jsonl(run / DEV)}
    validation = job.optional_input("validation")
    rouge = score_checkpoints(validation, job.input("dev")) if validation else {}
    scores = {
        update: {"dev_loss": losses[update]} | ({"dev_rouge": rouge[update]} if validation else {})
        for update in checkpoints
    }
    chosen = select(settings.rule, scores)
    link_files(checkpoints[chosen], job.output)
    selection = {"run": settings.name, "rule": settings.rule, "split": "dev", "update": chosen, "scores": scores}
    write_json(job.output / "selection.json", selection)
    job.notes |= {"rule": settings.rule, "update": chosen}


def score_checkpoints(validation: Path, dev: Path) -> dict[int, float]:
    """Returns each checkpoint's mean Rouge-L over the dev answers."""
    references = {example.id: example.references for example in read_examples(dev / "examples.jsonl")}
    scores = defaultdict(list)
    for _, row in read_jsonl(validation / "generations.jsonl"):
        scores[row["update"]].append(rouge_l(row["response"], references[row["id"]]))
    return {update: fmean(values) for update, values in scores.items()}


if __name__ == "__main__":
    run_stage(select_checkpoint, __doc__, inputs=("run", "validation", "dev"), settings=SelectCheckpoint)
