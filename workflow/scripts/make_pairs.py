"""Makes the preference pairs ready: from the embedded world's grammar, or from local files.

--others takes the gathered sets whose prompts no pair may have; --file, for pairs from files, those of train and test.
Writes train.jsonl, dev.jsonl and test.jsonl, the test prompts with valid answers as prompts.jsonl, and counts.json.
"""

from typing import Any

from distill.config.preferences import WorldPairs
from distill.config.slices.make_pairs import MakePairs
from distill.data.counts import publish_counts
from distill.data.pairs import count_pairs, drop_long_pairs, file_pairs, world_pairs
from distill.data.tokens import load_tokenizer
from distill.errors import DataError
from distill.files import write_jsonl
from distill.provenance.stage import Job, run_stage
from distill.records import read_examples


def make_pairs(job: Job) -> None:
    """Draws or reads the pairs, drops those that are too long, and writes the sets."""
    settings: MakePairs = job.settings
    source, tokenizer = settings.pairs, load_tokenizer(job.input("tokenizer"))[0]
    others = [example for folder in job.inputs["others"] for example in read_examples(folder / "examples.jsonl")]
    shared = 0
    if isinstance(source, WorldPairs):
        sets, prompts = world_pairs(source, settings.seed, others)
    else:
        sets, prompts, shared = file_pairs(source, job.inputs["file"], settings.seed, others)
    counts: dict[str, Any] = {"dropped_shared_prompt": shared}
    for name, pairs in sets.items():
        kept, dropped = drop_long_pairs(
            pairs, tokenizer, settings.wrapper, settings.max_prompt_tokens, settings.max_total_tokens
        )
        if not kept:
            raise DataError(
                f"preferences.pairs.{name}: expected pairs within data.max_prompt_tokens and data.max_total_tokens, "
                f"found none of {len(pairs)} that short; raise them or take other pairs"
            )
        write_jsonl(job.output / f"{name}.jsonl", (pair.to_dict() for pair in kept))
        counts[name] = count_pairs(kept) | {"dropped_long": dropped}
    write_jsonl(job.output / "prompts.jsonl", (example.to_dict() for example in prompts))
    publish_counts(job.output, counts)
    job.notes |= counts


if __name__ == "__main__":
    run_stage(make_pairs, __doc__, inputs=("others", "file", "tokenizer"), settings=MakePairs)
