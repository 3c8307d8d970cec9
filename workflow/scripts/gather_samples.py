"""Gathers the shards of the teacher's samples into one corpus."""

from distill.config.slices.gather_samples import GatherSamples
from distill.files import write_jsonl
from distill.provenance.stage import Job, run_stage
from distill.records import read_samples


def gather_samples(job: Job) -> None:
    """Writes samples.jsonl, ordered by prompt and sample, so that the number of shards leaves no trace."""
    samples = [sample for shard in job.inputs["shards"] for sample in read_samples(shard / "samples.jsonl")]
    samples.sort(key=lambda sample: (sample.held_out, sample.id, sample.sample))
    write_jsonl(job.output / "samples.jsonl", (sample.to_dict() for sample in samples))
    job.notes |= {"samples": len(samples), "finished": sum(sample.finished for sample in samples)}


if __name__ == "__main__":
    run_stage(gather_samples, __doc__, inputs=("shards",), settings=GatherSamples)
