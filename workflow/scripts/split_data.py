"""Filters the instructions by length and cuts them into train.jsonl, and dev.jsonl and test.jsonl where asked for.

--held-out takes gathered sets whose prompts must not stay in the instructions. counts.json has what was left out.
"""

from distill.config.slices.split_data import SplitData
from distill.data.counts import publish_counts
from distill.data.same_prompt import drop_shared
from distill.data.split import cut_split, drop_long
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
    sets = {folder.name: read_examples(folder / "examples.jsonl") for folder in job.inputs["held_out"]}
    kept, held_out = drop_shared(short, sets)
    split = cut_split(
        kept,
        settings.split_seed,
        test_rows=settings.test_rows,
        dev_rows=settings.dev_rows,
        train_rows=settings.train_rows,
        test_key=f"data.evaluation.{settings.test}",
        held_out=sum(held_out.values()),
    )
    parts = {"train": split.train, "dev": split.dev, "test": split.test}
    for name, examples in parts.items():
        if examples:
            write_jsonl(job.output / f"{name}.jsonl", (example.to_dict() for example in examples))
    counts = {"rows": len(pool), **dropped, "held_out_of_train": held_out}
    counts |= {name: len(examples) for name, examples in parts.items()}
    publish_counts(job.output, counts)
    job.notes |= counts


if __name__ == "__main__":
    run_stage(split_data, __doc__, inputs=("instructions", "tokenizer", "held_out"), settings=SplitData)
