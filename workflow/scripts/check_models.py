"""Checks that a model shares vocabulary, EOS and padding with the study's tokenizer, and has positions enough.

--model is a sealed folder or all files of one from outside; --teacher is what this script wrote of the teacher, for a
student, whose EOS and padding must be the same.
"""

from distill.config.slices.check_models import CheckModels
from distill.files import read_json, write_json
from distill.models.vocabulary import check_vocabulary
from distill.provenance.stage import Job, run_stage


def check_models(job: Job) -> None:
    """Writes vocabulary.json: the shared size, EOS and pad ids, embedding rows, and the tokenizer's digest."""
    folder = job.optional_input("teacher")
    teacher = read_json(folder / "vocabulary.json") if folder else None
    longest = (job.settings.tokens, job.settings.key)
    found = check_vocabulary(job.input("model"), job.input("tokenizer"), teacher, longest)
    write_json(job.output / "vocabulary.json", found)
    job.notes |= {"entries": found["size"]}


if __name__ == "__main__":
    names = ("model", "teacher", "tokenizer")
    run_stage(check_models, __doc__, inputs=names, settings=CheckModels, external=("model",))
