"""Filtering by length, and the seeded split without a prompt in two parts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from distill.data.same_prompt import find_alone
from distill.data.tokens import encode_example
from distill.errors import DataError
from distill.files import digest_value
from distill.records import Example


@dataclass(frozen=True)
class Split:
    """The parts; no two share a prompt (see `same_prompt`)."""

    train: list[Example]
    dev: list[Example]
    test: list[Example]


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


def cut_split(
    examples: Sequence[Example],
    seed: int,
    *,
    test_rows: int,
    dev_rows: int,
    train_rows: int | None,
    test_key: str = "data.evaluation",
    held_out: int = 0,
) -> Split:
    """Returns test, dev and train, cut in this order from the examples in an order drawn by `seed`.

    The order depends on the seed and on each example's id alone, so that the same rows in another order give the same
    split. Examples that share a prompt with another one go to train.

    Args:
        examples: the pool, filtered.
        seed: data.split_seed.
        test_rows: size of test; 0 for none.
        dev_rows: size of dev; 0 for none.
        train_rows: size of train; null takes all the rest.
        test_key: config key of the set that is cut as test, for the errors.
        held_out: how many the pool lost to sets with held_out_of_train, for the errors.

    Raises:
        DataError: a part is larger than what is left for it.
    """
    order = sorted(examples, key=lambda example: digest_value([seed, "split", example.id]))
    alone = find_alone(order)
    left = len(alone)
    size = f"{len(order)} after filtering" + f", held_out_of_train took {held_out}" * bool(held_out)
    for key, rows in ((f"{test_key}.rows", test_rows), ("data.dev.rows", dev_rows)):
        if rows > left:
            raise DataError(
                f"{key}: expected at most the {left} rows with a prompt of their own that are left of "
                f"data.instructions ({size}), found {rows}; lower it or add instructions"
            )
        left -= rows
    test, dev = alone[:test_rows], alone[test_rows : test_rows + dev_rows]
    taken = {example.id for example in (*test, *dev)}
    rest = [example for example in order if example.id not in taken]
    wanted = 1 if train_rows is None else train_rows
    if wanted > len(rest):
        raise DataError(
            f"data.train_rows: expected at most the {len(rest)} rows that dev and test leave of data.instructions "
            f"({size}), found {wanted}; lower it, make dev and test smaller, or add instructions"
        )
    return Split(rest[:train_rows], dev, test)
