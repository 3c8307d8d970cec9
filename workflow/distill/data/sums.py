"""The task `sums`: prompts such as `3+7+5+2=`, whose answer is the last digit of the sum.

An answer ends with `#` and that digit. It is *worked* where it adds one digit at a time, modulo 10, or *direct*:
`3+7=0;0+5=5;5+2=7;#7` or `#7`. A fixed rule holds prompts out of all that is trained on, so that train, dev and test
share none, whatever their sizes and seeds.
"""

import random
from collections.abc import Iterator
from itertools import product
from typing import Literal

from distill.errors import DataError

Digits = tuple[int, ...]
Part = Literal["train", "dev", "test"]

_WEIGHTS, _MODULUS = (7, 3, 5, 2), 11
"""Held out are the digits whose weighted sum is a multiple of the modulus: about one prompt in eleven."""
_DEV = {3: 30, 4: 300}
"""How many of the held-out prompts are dev's, by the number of digits; the rest are test's (61, 609)."""


def is_held_out(digits: Digits) -> bool:
    """Returns whether a prompt is kept out of train and plain text."""
    return sum(weight * digit for weight, digit in zip(_WEIGHTS, digits, strict=False)) % _MODULUS == 0


def prompt_of(digits: Digits, end: str = "=") -> str:
    """Returns the prompt; `=` asks for the answer, and `?` asks to work it out in the students' plain text."""
    return "+".join(map(str, digits)) + end


def direct_answer(digits: Digits) -> str:
    """Returns the last digit of the sum behind `#`."""
    return f"#{sum(digits) % 10}"


def worked_answer(digits: Digits) -> str:
    """Returns the sum step by step, modulo 10, with the direct answer behind it."""
    steps = [f"{sum(digits[:i]) % 10}+{digits[i]}={sum(digits[: i + 1]) % 10};" for i in range(1, len(digits))]
    return "".join(steps) + direct_answer(digits)


def _prompts(part: Part, digits: int, seed: int) -> list[Digits]:
    """Returns all prompts of a part, in an order drawn by the seed."""
    found = [each for each in product(range(10), repeat=digits) if is_held_out(each) == (part != "train")]
    random.Random(f"{seed}/sums/{'train' if part == 'train' else 'held out'}").shuffle(found)
    return found if part == "train" else found[: _DEV[digits]] if part == "dev" else found[_DEV[digits] :]


def generate_sums(part: Part, rows: int, digits: int, seed: int) -> list[dict]:
    """Returns rows {"instruction", "output"}: different prompts that end with `=`, each with its worked answer.

    Args:
        part: train, or which of the held-out prompts.
        rows: how many; the same seed gives the first ones of the same order.
        digits: how many are added; 3 or 4.
        seed: of the order (data.world_seed).

    Raises:
        DataError: the part has fewer prompts.
    """
    found = _prompts(part, digits, seed)
    if rows > len(found):
        raise DataError(
            f"sums of {digits} digits: expected at most {len(found)} rows of {part}, found {rows}; lower `rows`"
        )
    return [{"instruction": prompt_of(each), "output": worked_answer(each)} for each in found[:rows]]


def draw_documents(rows: int, digits: int, worked_share: float, seed: int) -> Iterator[str]:
    """Yields plain text that teaches a student both ways to answer, from train's prompts, each prompt many times.

    Half of the documents are prompts that end with `?`, worked out; half are prompts that end with `=`, answered at
    once but for a share that is worked out. So a student can work a sum out, and does so after `=` only as often as
    that share.

    Args:
        rows: how many documents.
        digits: how many digits are added; 3 or 4.
        worked_share: of the answers after `=`, in [0, 1].
        seed: of the draws.
    """
    prompts, rng = _prompts("train", digits, seed), random.Random(f"{seed}/sums/plain_text")
    for _ in range(rows):
        each, is_asked, is_worked = rng.choice(prompts), rng.random() < 0.5, rng.random() < worked_share
        answer = worked_answer(each) if is_asked or is_worked else direct_answer(each)
        yield prompt_of(each, "?" if is_asked else "=") + answer
