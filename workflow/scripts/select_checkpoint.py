"""Selects one checkpoint of a training run, or its start, by dev scores and publishes it as the run's model."""

from importlib import import_module

from distill.checkpoints import DEV, SELECTION, link_files, prune_checkpoints, read_candidates
from distill.config.slices.select_checkpoint import SelectCheckpoint
from distill.data.chat_template import make_usable
from distill.data.model_card import write_model_card
from distill.evaluation.selection import SCORER, selecting_metric, selection
from distill.files import read_jsonl, write_json
from distill.provenance.stage import Job, run_stage


def select_checkpoint(job: Job) -> None:
    """Writes the selected candidate's files (hard links), how it is asked, and selection.json with every candidate's
    score; then removes the weights of the others but the last, where the config asks for it.
    """
    settings: SelectCheckpoint = job.settings
    run = job.input("run")
    candidates = read_candidates(run, job.optional_input("start"))
    metric, answers = selecting_metric(settings.rule), None
    if metric:
        scorer = import_module(SCORER)
        scorer.check_references(job.input("dev"), metric, settings.name)
        answers = scorer.score_checkpoints(job.input("validation"), job.input("dev"), metric)
    chosen = selection(settings, (row for _, row in read_jsonl(run / DEV)), candidates, answers)
    link_files(candidates[chosen["update"]], job.output)
    make_usable(job.output, settings.wrapper, settings.max_new_tokens)
    write_json(job.output / SELECTION, chosen)
    job.notes |= {key: chosen[key] for key in ("rule", "update", "keeps_start")}
    if job.keep_checkpoints == "selected":
        job.afterwards.append(lambda: prune_checkpoints(run, (chosen["update"], max(candidates))))
    if chosen["keeps_start"]:
        print(f"{settings.name}: by {settings.rule} no checkpoint is better than its start, which it keeps")


if __name__ == "__main__":
    run_stage(
        select_checkpoint,
        __doc__,
        inputs=("start", "run", "validation", "dev"),
        settings=SelectCheckpoint,
        beside=write_model_card,
    )
