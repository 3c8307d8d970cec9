"""Filters the instructions by length and cuts them into train.jsonl, and dev.jsonl and test.jsonl where asked for.

--held-out takes gathered sets whose prompts must not stay in the instructions.
"""

from distill.config.stages.data import SplitData
from distill.data.split import cut_split, drop_held_out, drop_long
from distill.data.tokens import load_tokenizer
from distill.files import write_jsonl
from distill.provenance.stage import Job, run_stage
from distill.records import read_examples


def split_data(job: Job) -> None:
    """Filters and cuts."""
    settings: SplitData = job.settings
    tokenizer, _ = load_tokenizer(job.input("tokenizer"))
    pool = read_examples(job.input("instructions") / "examples.jsonl")
    short, dropped = drop_long(pool, tokenizer, settings.wrapper, settings.max_prompt_tokens, settings.max_total_tokens)
    held_out = [example for folder in job.inputs["held_out"] for example in read_examples(folder / "examples.jsonl")]
    kept = drop_held_out(short, held_out)
    split = cut_split(
        kept,
        settings.split_seed,
        test_rows=settings.test_rows,
        dev_rows=settings.dev_rows,
        train_rows=settings.train_rows,
        test_key=f"data.evaluation.{settings.test}",
    )
    parts = {"train": split.train, "dev": split.dev, "test": split.test}
    for name, examples in parts.items():
        if examples:
            write_jsonl(job.output / f"{name}.jsonl", (example.to_dict() for example in examples))
    job.notes |= {"rows": len(pool), **dropped, "dropped_held_out": len(short) - len(kept)}
    job.notes |= {name: len(examples) for name, examples in parts.items()}


if __name__ == "__main__":
    run_stage(split_data, __doc__, inputs=("instructions", "tokenizer", "held_out"), settings=SplitData)
