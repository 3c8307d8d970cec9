"""Trains one run (teacher, phase 1, or a compared method) with DeepSpeed and keeps its checkpoints."""

from distill.config.slices.train_run import TrainRun
from distill.methods.needs import NEEDED_INPUTS, SHARED_INPUTS
from distill.provenance.stage import Job, run_stage
from distill.startup import starting


def train_run(job: Job) -> None:
    """Writes checkpoints/, metrics.jsonl (every update), dev.jsonl and dev_items.jsonl (every checkpoint), and
    data_seen.json: what the updates drew from the data.
    """
    with starting():
        from distill.methods.run_method import train_method

    state = job.state(settings=job.settings.model_dump(), inputs=job.digests)
    own = job.save_every_minutes, job.tracker
    job.notes |= train_method(job.settings, job.inputs, state, job.output, *own)
    job.spent.append(state)


if __name__ == "__main__":
    run_stage(train_run, __doc__, inputs=SHARED_INPUTS + NEEDED_INPUTS, settings=TrainRun)
