"""Asks a teacher behind a server for answers to training and dev prompts, as texts."""

import os
from dataclasses import asdict

from distill.config.remote import key_of
from distill.config.slices.ask_teacher import AskTeacher
from distill.files import write_jsonl
from distill.progress import Progress
from distill.provenance.stage import Job, run_stage
from distill.records import read_examples


def ask_teacher(job: Job) -> None:
    """Writes texts.jsonl: the answers to training prompts first, then those to the held-out dev prompts."""
    from distill.remote.journal import Journal
    from distill.sampling.asked_teacher import AskedTeacher, Spoken

    settings: AskTeacher = job.settings
    train = read_examples(job.input("split") / "train.jsonl")[: settings.prompts]
    examples = [*train, *read_examples(job.input("dev") / "examples.jsonl")[: settings.held_out_prompts]]
    # Answers are kept as they came, by their whole request: more prompts, another cap or other code find them again.
    state = job.kept(teacher=settings.teacher.model_dump(include={"base_url", "model"}))
    journal = Journal(state / "answers.jsonl", Spoken)
    teacher = AskedTeacher(settings, key_of(settings.teacher, os.environ), journal)
    with Progress(total=len(examples), desc=settings.teacher.model, unit="prompt") as progress:
        spoken = teacher.ask(examples, progress.update)
    samples = [sample for example, own in zip(examples, spoken, strict=True) for sample in own.samples(example)]
    write_jsonl(job.output / "texts.jsonl", map(asdict, samples))
    job.notes |= {
        "samples": len(samples),
        "empty": sum(len(own.said) for own in spoken) - len(samples),
        "refused_prompts": sum(own.refused is not None for own in spoken),
        "models": sorted({own.model for own in spoken if own.model}),
        "spent_usd": round(teacher.spent_usd, 6),
    }


if __name__ == "__main__":
    run_stage(ask_teacher, __doc__, inputs=("split", "dev"), settings=AskTeacher)
