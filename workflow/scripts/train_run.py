"""Trains one run (teacher, phase 1, or a compared method) with DeepSpeed and keeps its checkpoints."""

from distill.config.stages.student import TrainRun
from distill.provenance.stage import Job, run_stage
from distill.startup import starting

INPUTS = ("start", "vocabulary", "split", "dev", "tokenizer", "samples", "candidates", "plain_text", "teacher")


def train_run(job: Job) -> None:
    """Writes checkpoints/, metrics.jsonl (every update), dev.jsonl and dev_items.jsonl (every checkpoint), and
    data_seen.json: what the updates drew from the data.
    """
    with starting():
        from distill.training.run_method import train_method

    inputs = {name: job.inputs[name] if name == "candidates" else job.optional_input(name) for name in INPUTS}
    state = job.state(settings=job.settings.model_dump(), inputs=job.digests)
    job.notes |= train_method(job.settings, inputs, state, job.output)
    job.spent.append(state)


if __name__ == "__main__":
    run_stage(train_run, __doc__, inputs=INPUTS, settings=TrainRun)
