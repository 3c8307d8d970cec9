"""Makes one evaluation or validation set ready: drops rows that are too long and refuses prompts that train or dev has.

--source is the gathered set, or the split folder for a set that was cut from the instructions. --leave-out, for dev,
takes the sources of the test sets whose prompts are taken out of it; --dev, for a test set, is dev made ready. Writes
examples.jsonl, and counts.json with what was left out.
"""

from pathlib import Path

from distill.config.keys import config_key
from distill.config.slices.prepare_evaluation import PrepareEvaluation
from distill.data.counts import publish_counts
from distill.data.same_prompt import describe_shared, drop_shared, find_shared
from distill.data.split import drop_long
from distill.data.tokens import load_tokenizer
from distill.errors import DataError
from distill.files import write_jsonl
from distill.provenance.stage import Job, run_stage
from distill.records import Example, read_examples


def _refuse_shared(key: str, examples: list[Example], others: Path, name: str, advice: str) -> None:
    shared = find_shared(examples, read_examples(others))
    if shared:
        raise DataError(
            f"{key}: expected no prompt that {name} has too, found {len(shared)} of {len(examples)}, "
            f"{describe_shared(shared)} of {name}; {advice}"
        )


def prepare_evaluation(job: Job) -> None:
    """Filters and checks the set."""
    settings: PrepareEvaluation = job.settings
    key, split = config_key(settings.name), job.input("split")
    tokenizer, _ = load_tokenizer(job.input("tokenizer"))
    examples = read_examples(job.input("source") / f"{settings.part or 'examples'}.jsonl")
    short, dropped = drop_long(
        examples, tokenizer, settings.wrapper, settings.max_prompt_tokens, settings.max_total_tokens
    )
    if not short:
        raise DataError(
            f"{key}: expected rows within data.max_prompt_tokens = {settings.max_prompt_tokens}, found none of "
            f"{len(examples)} that short; raise it or take another set"
        )
    files = [folder / ("test.jsonl" if folder == split else "examples.jsonl") for folder in job.inputs["leave_out"]]
    sets = {name: read_examples(file) for name, file in zip(settings.leave_out, files, strict=True)}
    kept, left_out = drop_shared(short, sets)
    if not kept:
        raise DataError(
            f"{key}.leave_out: expected rows whose prompts are in none of {', '.join(sets)}, found none of "
            f"{len(short)}; take another set"
        )
    advice = f"set {key}.held_out_of_train: true to take them out of train, or {key}.kind: split"
    _refuse_shared(key, kept, split / "train.jsonl", "train", advice)
    if dev := job.optional_input("dev"):
        advice = f"add {settings.name} to data.dev.leave_out to take them out of dev"
        _refuse_shared(key, kept, dev / "examples.jsonl", "dev", advice)
    write_jsonl(job.output / "examples.jsonl", (example.to_dict() for example in kept))
    counts = {"rows": len(examples), **dropped, "leave_out": left_out, "kept": len(kept)}
    publish_counts(job.output, counts)
    job.notes |= counts


if __name__ == "__main__":
    # The split may be under other names too; the record keeps the last.
    names = ("leave_out", "source", "split", "tokenizer", "dev")
    run_stage(prepare_evaluation, __doc__, inputs=names, settings=PrepareEvaluation)
