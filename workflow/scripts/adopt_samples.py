"""Checks and adopts teacher samples from outside, or the texts of a teacher that was asked, in place of sampling."""

from distill.config.slices.adopt_samples import AdoptSamples
from distill.data.external_samples import read_external_samples, read_fixed_records
from distill.data.tokens import load_tokenizer
from distill.files import write_jsonl
from distill.provenance.stage import Job, run_stage
from distill.records import read_examples


def adopt_samples(job: Job) -> None:
    """Writes samples.jsonl, ordered as sampled ones are: training prompts first, then by prompt and sample."""
    train = read_examples(job.input("split") / "train.jsonl")
    dev = read_examples(job.input("dev") / "examples.jsonl")
    path, tokenizer, counts = job.input("samples"), load_tokenizer(job.input("tokenizer")), dict[str, int]()
    is_asked = path.is_dir()
    if is_asked:
        path /= "texts.jsonl"
    if path.suffix == ".bin":
        samples, counts = read_fixed_records(path, train, dev, *tokenizer, **job.settings.model_dump())
    else:
        texts = job.settings.model_dump(include={"wrapper", "response_tokens"})
        samples = read_external_samples(path, train, dev, *tokenizer, **texts)
    write_jsonl(job.output / "samples.jsonl", (sample.to_dict() for sample in samples))
    job.notes |= {
        **({} if is_asked else {"external": True, "key": "external.samples"}),
        "samples": len(samples),
        "prompts": len({sample.id for sample in samples}),
        "finished": sum(sample.finished for sample in samples),
        **counts,
    }


if __name__ == "__main__":
    run_stage(adopt_samples, __doc__, inputs=("samples", "split", "dev", "tokenizer"), settings=AdoptSamples)
