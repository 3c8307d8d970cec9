"""Makes one evaluation or validation set ready: drops rows that are too long and refuses prompts that train has.

--source is the gathered set, or the split folder for a set that was cut from the instructions. Writes examples.jsonl.
"""

from distill.config.data import config_key
from distill.config.stages.data import PrepareEvaluation
from distill.data.split import drop_long, find_leaks
from distill.data.tokens import load_tokenizer
from distill.errors import DataError
from distill.files import write_jsonl
from distill.provenance.stage import Job, run_stage
from distill.records import read_examples


def prepare_evaluation(job: Job) -> None:
    """Filters and checks the set."""
    settings: PrepareEvaluation = job.settings
    key = config_key(settings.name)
    tokenizer, _ = load_tokenizer(job.input("tokenizer"))
    examples = read_examples(job.input("source") / f"{settings.part or 'examples'}.jsonl")
    kept, dropped = drop_long(
        examples, tokenizer, settings.wrapper, settings.max_prompt_tokens, settings.max_total_tokens
    )
    if not kept:
        raise DataError(
            f"{key}: expected rows within data.max_prompt_tokens = {settings.max_prompt_tokens}, found none of "
            f"{len(examples)} that short; raise it or take another set"
        )
    leaks = find_leaks(read_examples(job.input("split") / "train.jsonl"), kept)
    if leaks:
        raise DataError(
            f"{key}: expected no prompt that train has too, found {len(leaks)} of {len(kept)}, the first with id "
            f"{leaks[0]}; set {key}.held_out_of_train: true to take them out of train, or {key}.kind: split"
        )
    write_jsonl(job.output / "examples.jsonl", (example.to_dict() for example in kept))
    job.notes |= {"rows": len(examples), **dropped, "kept": len(kept)}


if __name__ == "__main__":
    run_stage(prepare_evaluation, __doc__, inputs=("source", "split", "tokenizer"), settings=PrepareEvaluation)
