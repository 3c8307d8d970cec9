"""What a run may read besides the instruction data and its start model: each need's name, inputs and folders."""

from collections.abc import Iterable

NEEDS: dict[str, dict[str, str]] = {
    "teacher_samples": {"samples": "samples"},
    "candidate_sets": {"candidates": "candidates/{shard}"},
    "teacher_logits": {"teacher": "models/teacher"},
    "preference_pairs": {"pairs": "data/pairs"},
    # The teacher that learnt from the pairs, and its values along them.
    "preference_teacher": {"preference_teacher": "models/teacher_dpo"},
    "teacher_values": {"values": "values"},
    "plain_text": {"plain_text": "data/sources/plain_text"},
    # Those that the teacher is sampled on, without responses: rows of the split, which every run reads.
    "prompts": {},
}
"""By need: the inputs of `train_run`, which the context then holds, each with its folder below results.

A folder with `{shard}` stands for one a shard of the teacher's samples.
"""
PROBABILITIES = frozenset({"teacher_logits", "candidate_sets", "preference_teacher", "teacher_values"})
"""What only a teacher whose probabilities are known can give."""
SHARED_INPUTS = ("start", "vocabulary", "split", "dev", "tokenizer")
"""What every run reads."""
NEEDED_INPUTS = tuple(name for inputs in NEEDS.values() for name in inputs)


def needed_folders(needs: Iterable[str], shards: int) -> dict[str, list[str]]:
    """Returns the folders below results behind the inputs of these needs, by input."""
    return {
        name: list(dict.fromkeys(folder.format(shard=shard) for shard in range(shards)))
        for need in sorted(needs)
        for name, folder in NEEDS[need].items()
    }
