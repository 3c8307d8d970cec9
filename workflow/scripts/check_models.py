"""Checks that teacher, students and tokenizer share one vocabulary, EOS and padding."""

from distill.config.stages.models import CheckModels
from distill.files import write_json
from distill.model_folders import check_vocabulary
from distill.provenance.stage import Job, run_stage

INPUTS = ("teacher", "student", "further_students", "tokenizer")


def check_models(job: Job) -> None:
    """Writes vocabulary.json: the shared size, EOS and pad ids, embedding rows, and the tokenizer's digest."""
    students = [*job.inputs["student"], *job.inputs["further_students"]]
    shared = check_vocabulary(job.input("teacher"), students, job.input("tokenizer"))
    write_json(job.output / "vocabulary.json", shared)


if __name__ == "__main__":
    run_stage(check_models, __doc__, inputs=INPUTS, settings=CheckModels, external=("teacher", "student"))
