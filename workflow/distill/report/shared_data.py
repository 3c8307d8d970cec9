"""Which runs of a study can be told apart by their method alone, as their training data say."""

from collections.abc import Mapping, Sequence

from distill.report import captions


def shared_data(rows: Sequence[Mapping[str, str]]) -> str:
    """Returns the sentence on which compared runs share start, prompts, responses, sequences and updates.

    Teacher and phase 1 are not compared runs, and of several training seeds the first speaks for all.

    Args:
        rows: data_seen.csv.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    first: dict[str, str] = {}
    for row in rows:
        is_first = first.setdefault(row["student"], row["training_seed"]) == row["training_seed"]
        if is_first and row["run"] not in ("teacher", "phase1"):
            # A run whose task does not tell its prompts is like no other.
            prompts = row["prompt_set"] or row["system"]
            key = row["student"], row["start"], prompts, row["responses"], row["sequences"], row["updates"]
            groups.setdefault(key, []).append(row["system"])
    alike = [names for names in groups.values() if len(names) > 1]
    if len(groups) <= 1:
        return captions.ALL_ALIKE
    if not alike:
        return captions.NONE_ALIKE
    return captions.ALIKE.format(groups="; ".join(", ".join(f"`{name}`" for name in names) for names in alike))
