"""Gathers the shards of the teacher's samples into one corpus."""

from contextlib import ExitStack

from distill.config.slices.gather_samples import GatherSamples
from distill.files import atomic_write
from distill.provenance.stage import Job, run_stage
from distill.records import iterate_samples


def gather_samples(job: Job) -> None:
    """Writes samples.jsonl, ordered by prompt and sample, so that the number of shards leaves no trace.

    Rows stay on disk: only their order is held.
    """
    order, finished = [], 0
    with ExitStack() as stack:
        shards = [stack.enter_context(open(shard / "samples.jsonl", "rb")) for shard in job.inputs["shards"]]
        for shard in shards:
            start = 0
            for line, sample in zip(shard, iterate_samples(shard.name), strict=True):
                order.append((sample.held_out, sample.id, sample.sample, shard, start))
                start += len(line)
                finished += sample.finished
        order.sort(key=lambda row: row[:3])
        with atomic_write(job.output / "samples.jsonl") as temporary, open(temporary, "wb") as file:
            for *_, shard, start in order:
                shard.seek(start)
                file.write(shard.readline())
    job.notes |= {"samples": len(order), "finished": finished}


if __name__ == "__main__":
    run_stage(gather_samples, __doc__, inputs=("shards",), settings=GatherSamples)
