"""Filtering by length, the seeded split without a prompt in two parts, and the check for test prompts in train."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from distill.data.tokens import encode_example
from distill.errors import DataError
from distill.files import digest_value
from distill.records import Example


@dataclass(frozen=True)
class Split:
    """The parts; no two share a prompt (see `leak_keys`)."""

    train: list[Example]
    dev: list[Example]
    test: list[Example]


def normalise(text: str) -> str:
    """Returns a text without case, spaces, punctuation and citation marks such as [12] or [a]."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"[\W_]+", "", re.sub(r"\[(?:\d+|[a-z])\]", "", text)) or text.strip()


def leak_keys(example: Example) -> set[tuple[str, str]]:
    """Returns what two examples share if one gives the other away: the prompt, or the instruction with an answer.

    The second kind finds rows of which one revision of Dolly has the passage in the input and another has not.
    """
    answers = {("answer", normalise(f"{example.instruction} {answer}")) for answer in example.references}
    return {("prompt", normalise(f"{example.instruction} {example.input}"))} | answers


def drop_long(
    examples: Iterable[Example],
    tokenizer: Tokenizer,
    wrapper: str,
    max_prompt_tokens: int,
    max_total_tokens: int | None,
) -> tuple[list[Example], dict[str, int]]:
    """Returns the examples within the limits (none on the total where it is null), and how many each limit dropped."""
    kept = []
    counts = {"dropped_long_prompt": 0, "dropped_long_total": 0}
    for example in examples:
        encoded = encode_example(tokenizer, wrapper, example, eos_id=0)  # which id it is does not change the length
        prompt = len(encoded.prompt_ids)
        if prompt > max_prompt_tokens:
            counts["dropped_long_prompt"] += 1
        elif max_total_tokens is not None and prompt + len(encoded.response_ids) > max_total_tokens:
            counts["dropped_long_total"] += 1
        else:
            kept.append(example)
    return kept, counts


def drop_held_out(examples: Iterable[Example], held_out: Iterable[Example]) -> list[Example]:
    """Returns the examples that share no leak key with a held-out one."""
    keys = {key for example in held_out for key in leak_keys(example)}
    return [example for example in examples if keys.isdisjoint(leak_keys(example))]


def cut_split(
    examples: Sequence[Example],
    seed: int,
    *,
    test_rows: int,
    dev_rows: int,
    train_rows: int | None,
    test_key: str = "data.evaluation",
) -> Split:
    """Returns test, dev and train, cut in this order from the examples in an order drawn by `seed`.

    The order depends on the seed and on each example's id alone, so that the same rows in another order give the same
    split. Examples that share a leak key with another one go to train.

    Args:
        examples: the pool, filtered.
        seed: data.split_seed.
        test_rows: size of test; 0 for none.
        dev_rows: size of dev; 0 for none.
        train_rows: size of train; null takes all the rest.
        test_key: config key of the set that is cut as test, for the errors.

    Raises:
        DataError: a part is larger than what is left for it.
    """
    order = sorted(examples, key=lambda example: digest_value([seed, "split", example.id]))
    keys = {example.id: leak_keys(example) for example in order}
    counts = Counter(key for own in keys.values() for key in own)
    alone = [example for example in order if all(counts[key] == 1 for key in keys[example.id])]
    left = len(alone)
    for key, rows in ((f"{test_key}.rows", test_rows), ("data.dev.rows", dev_rows)):
        if rows > left:
            raise DataError(
                f"{key}: expected at most the {left} rows with a prompt of their own that are left of "
                f"data.instructions ({len(order)} after filtering), found {rows}; lower it or add instructions"
            )
        left -= rows
    test, dev = alone[:test_rows], alone[test_rows : test_rows + dev_rows]
    taken = {example.id for example in (*test, *dev)}
    rest = [example for example in order if example.id not in taken]
    wanted = 1 if train_rows is None else train_rows
    if wanted > len(rest):
        raise DataError(
            f"data.train_rows: expected at most the {len(rest)} rows that dev and test leave of data.instructions "
            f"({len(order)} after filtering), found {wanted}; lower it, make dev and test smaller, or add instructions"
        )
    return Split(rest[:train_rows], dev, test)


def find_leaks(train: Iterable[Example], examples: Iterable[Example]) -> list[str]:
    """Returns the ids of the examples that share a leak key with a training example, in order."""
    keys = {key for example in train for key in leak_keys(example)}
    return [example.id for example in examples if not keys.isdisjoint(leak_keys(example))]
