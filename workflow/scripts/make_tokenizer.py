"""Makes the study's tokenizer folder: trained on its texts for scratch models, else taken from the teacher's base.

--file takes files of a local base model's folder, so that the record holds their digests.
"""

from collections.abc import Iterator

from distill.config.slices.make_tokenizer import MakeTokenizer
from distill.data.plain_text import read_documents
from distill.data.prompts import wrap
from distill.data.vocabulary import copy_tokenizer, train_tokenizer
from distill.provenance.hub import hub_note
from distill.provenance.stage import Job, run_stage
from distill.records import read_examples


def make_tokenizer(job: Job) -> None:
    """Trains or copies the tokenizer."""
    settings: MakeTokenizer = job.settings
    if settings.model is None:
        train_tokenizer(read_texts(job), settings.vocabulary_size, job.output)
        job.notes |= {"entries": settings.vocabulary_size}
    else:
        copy_tokenizer(settings.model, job.output)
        job.notes |= {"of": "the teacher's base", **hub_note("model", settings.model)}


def read_texts(job: Job) -> Iterator[str]:
    """Yields the wrapped prompts, the answers and the plain text."""
    for example in read_examples(job.input("instructions") / "examples.jsonl"):
        yield wrap(job.settings.wrapper, example.instruction, example.input)
        yield from example.references
    for folder in job.inputs["plain_text"]:
        yield from read_documents(folder)


if __name__ == "__main__":
    run_stage(make_tokenizer, __doc__, inputs=("instructions", "plain_text", "file"), settings=MakeTokenizer)
