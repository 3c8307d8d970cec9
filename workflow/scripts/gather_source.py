"""Brings one source of rows (embedded world, local file or hub) to the common schema.

Writes examples.jsonl, or documents.jsonl for plain text.
"""

from distill.config.slices.gather_source import GatherSource
from distill.config.sources import FileSource
from distill.data.sources import gather_documents, gather_examples
from distill.files import read_jsonl, write_jsonl
from distill.provenance.hub import hub_note
from distill.provenance.stage import Job, run_stage


def gather_source(job: Job) -> None:
    """Gathers the rows that the settings name."""
    settings: GatherSource = job.settings
    file = job.input("file") if isinstance(settings.source, FileSource) else None
    if settings.name == "plain_text":
        documents = gather_documents(settings.source, settings.seed, file)
        write_jsonl(job.output / "documents.jsonl", ({"text": text} for text in documents))
        job.notes |= {"documents": sum(1 for _ in read_jsonl(job.output / "documents.jsonl"))}
    else:
        examples, repeated = gather_examples(settings.source, settings.name, settings.seed, file)
        write_jsonl(job.output / "examples.jsonl", (example.to_dict() for example in examples))
        job.notes |= {"rows": len(examples), "repeated_rows_left_out": repeated}
    job.notes |= hub_note("dataset", settings.source)


if __name__ == "__main__":
    run_stage(gather_source, __doc__, inputs=("file",), settings=GatherSource)
