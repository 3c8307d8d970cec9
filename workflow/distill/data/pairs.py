"""Preference pairs: from the embedded world's grammar, told apart by wrong concepts, or from local files.

A world pair answers one prompt twice, each side with a template of its own drawn from the same grammar, so that form
and length say nothing; the worse side names more concepts that are wrong for the prompt.
"""

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from distill.concepts import CONCEPTS, named_concepts
from distill.config.preferences import FilePairs, WorldPairs
from distill.data.same_prompt import drop_shared, find_alone
from distill.data.tokens import encode_prompt, encode_text
from distill.data.world import CATEGORIES, REFERENCES, Lore, Task, draw_lore, normalise_prompt, say
from distill.errors import DataError
from distill.files import digest_value, read_jsonl
from distill.records import Example, PreferencePair, read_pairs

TRAIN, DEV, TEST = "train", "dev", "test"
GRADES = ((0, 1), (0, 2), (0, 3), (1, 3))
"""Wrong concepts of the better and the worse side; equal shares."""
PAIR_CATEGORIES = ("open_qa", "creative_writing", "brainstorming")
"""Whose answers name concepts that a model has to know; in the others they stand in the input, or groups are asked."""
_FIELDS = ("prompt", "chosen", "rejected")

Pairs = dict[str, list[PreferencePair]]
"""By set."""


@dataclass(frozen=True)
class EncodedPair:
    """A pair's prompt and its two responses, each with EOS at its end."""

    id: str
    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]

    @property
    def sides(self) -> tuple[tuple[list[int], list[int]], tuple[list[int], list[int]]]:
        """Prompt and response, of the chosen and of the rejected one."""
        return (self.prompt_ids, self.chosen_ids), (self.prompt_ids, self.rejected_ids)


def encode_pair(tokenizer: Tokenizer, wrapper: str, pair: PreferencePair, eos_id: int) -> EncodedPair:
    """Returns a pair's ids."""
    prompt = encode_prompt(tokenizer, wrapper, pair.instruction, pair.input)
    chosen, rejected = ([*encode_text(tokenizer, text), eos_id] for text in (pair.chosen, pair.rejected))
    return EncodedPair(pair.id, prompt, chosen, rejected)


def encode_pairs(path: Path | str, tokenizer: Tokenizer, wrapper: str, eos_id: int) -> list[EncodedPair]:
    """Returns the encoded pairs of a JSONL file, in its order."""
    return [encode_pair(tokenizer, wrapper, pair, eos_id) for pair in read_pairs(path)]


def example_of(pair: PreferencePair) -> Example:
    """Returns a pair as an example whose answer is the chosen response."""
    return Example.of(pair.instruction, pair.input, pair.chosen, pair.category)


def drop_long_pairs(
    pairs: Sequence[PreferencePair], tokenizer: Tokenizer, wrapper: str, max_prompt_tokens: int, max_total_tokens: int
) -> tuple[list[PreferencePair], int]:
    """Returns the pairs both of whose sides are within the limits, and how many are not."""
    kept = []
    for pair in pairs:
        ids = encode_pair(tokenizer, wrapper, pair, eos_id=0)  # which id it is does not change the length
        longest = max(len(ids.chosen_ids), len(ids.rejected_ids))
        if len(ids.prompt_ids) <= max_prompt_tokens and len(ids.prompt_ids) + longest <= max_total_tokens:
            kept.append(pair)
    return kept, len(pairs) - len(kept)


# --- the embedded world ------------------------------------------------------------------------------------------


def corrupt(rng: random.Random, task: Task, template: str, wrong: int) -> dict[str, tuple[str, ...]]:
    """Returns a task's slots, `wrong` of the concepts that the template names replaced by another of the same kind."""
    slots = dict(task.slots)
    for kind in rng.sample([kind for kind in slots if kind in CONCEPTS and f"${kind}" in template], wrong):
        slots[kind] = rng.choice([words for words in CONCEPTS[kind] if words != slots[kind]])
    return slots


def draw_pairs(
    lore: Lore, seed: int, name: str, count: int, flipped: float, taken: set[str]
) -> tuple[list[PreferencePair], list[Example]]:
    """Draws pairs, categories and grades in turn, with no prompt of `taken`, and each prompt with valid answers.

    Args:
        lore: the world's truths.
        seed: of the world.
        name: of the set, part of its seed.
        count: of the pairs.
        flipped: share of labels that are turned round, drawn without replacement.
        taken: prompts (`normalise_prompt`); the new ones are added.

    Raises:
        DataError: the world has too few distinct prompts.
    """
    rng = random.Random(f"{seed}/pairs/{name}")
    turned = set(rng.sample(range(count), round(flipped * count)))
    pairs, prompts = [], []
    for number in range(count):
        category = PAIR_CATEGORIES[number % len(PAIR_CATEGORIES)]
        grade = GRADES[number // len(PAIR_CATEGORIES) % len(GRADES)]
        for _ in range(200):
            task = CATEGORIES[category](lore, rng, 0, False)
            prompt = normalise_prompt(task.instruction, task.input)
            if prompt not in taken:
                break
        else:
            raise DataError(
                f"preferences.pairs.{name}: expected {count} distinct prompts, found {number}; ask for fewer"
            )
        taken.add(prompt)
        sides = []
        for wrong in grade:
            template = rng.choice(task.answers)
            sides.append(say(rng, template, corrupt(rng, task, template, wrong)))
        is_flipped = number in turned
        chosen, rejected = sides[::-1] if is_flipped else sides
        named = "-".join(map(str, grade))
        pairs.append(PreferencePair.of(task.instruction, task.input, chosen, rejected, category, named, is_flipped))
        truth = {kind for kind in task.slots if kind in CONCEPTS and any(f"${kind}" in form for form in task.answers)}
        answers: list[str] = []
        # Together they name all that is true, which the metric `concepts` takes from them.
        while {kind for text in answers for kind, _ in named_concepts(text)} != truth:
            answers = [say(rng, rng.choice(task.answers), task.slots) for _ in range(REFERENCES)]
        prompts.append(Example.of(task.instruction, task.input, answers, category))
    return pairs, prompts


# --- sets --------------------------------------------------------------------------------------------------------


def world_pairs(source: WorldPairs, seed: int, others: Collection[Example]) -> tuple[Pairs, list[Example]]:
    """Returns the sets of the world of `seed`, and the test prompts with their valid answers.

    No two rows of any sets share a prompt, those of `others` among them; no label of dev and test is flipped. The same
    arguments give the same pairs.
    """
    taken = {normalise_prompt(example.instruction, example.input) for example in others}
    lore = draw_lore(seed)
    test, prompts = draw_pairs(lore, seed, TEST, source.test, 0.0, taken)
    dev, _ = draw_pairs(lore, seed, DEV, source.dev, 0.0, taken)
    train, _ = draw_pairs(lore, seed, TRAIN, source.train, source.flipped, taken)
    return {TRAIN: train, DEV: dev, TEST: test}, prompts


def read_pair_file(path: Path) -> list[PreferencePair]:
    """Returns the distinct pairs of a JSONL file of {"prompt", "chosen", "rejected"}; other fields are ignored.

    Raises:
        DataError: the file is missing or malformed, a field is absent, no string or blank, or both sides are the same.
    """
    found: dict[str, PreferencePair] = {}
    for number, row in read_jsonl(path):
        for field in _FIELDS:
            if not isinstance(row.get(field), str) or not row[field].strip():
                raise DataError(
                    f"{path}:{number}: expected a non-empty string as `{field}`, found {row.get(field)!r}; fix the row "
                    "or delete it"
                )
        prompt, chosen, rejected = (row[field] for field in _FIELDS)
        if chosen == rejected:
            raise DataError(f"{path}:{number}: expected two different responses, found one twice; delete the row")
        pair = PreferencePair.of(prompt, "", chosen, rejected)
        found.setdefault(pair.id, pair)
    return list(found.values())


def file_pairs(
    source: FilePairs, files: Sequence[Path], seed: int, others: Collection[Example]
) -> tuple[Pairs, list[Example], int]:
    """Returns the sets of the files of train and test, the test prompts, and how many pairs of train shared a prompt.

    Train has no prompt of test or of `others`, and dev is cut from it in an order drawn by `seed`.

    Raises:
        DataError: see `read_pair_file`; or train has no pair left.
    """
    train, test = map(read_pair_file, files)
    prompts = [example_of(pair) for pair in test]
    pairs = {id(example): (pair, example) for pair in train for example in [example_of(pair)]}
    kept, _ = drop_shared([example for _, example in pairs.values()], {TEST: [*others, *prompts]})
    alone = sorted(find_alone(kept), key=lambda example: digest_value([seed, "pairs", example.id]))
    if source.dev > len(alone) or source.dev >= len(kept):
        raise DataError(
            f"preferences.pairs.dev: expected fewer than the {len(alone)} pairs with a prompt of their own that are "
            f"left of {files[0]}, found {source.dev}; lower it or add pairs"
        )
    watched = {id(example) for example in alone[: source.dev]}
    sets: Pairs = {TRAIN: [], DEV: [], TEST: test}
    for example in kept:
        sets[DEV if id(example) in watched else TRAIN].append(pairs[id(example)][0])
    return sets, prompts, len(train) - len(kept)


def count_pairs(pairs: Sequence[PreferencePair]) -> dict[str, Any]:
    """Returns what a set holds: pairs, flipped labels, and pairs by grade where grades are known."""
    grades = Counter(pair.grade for pair in pairs if pair.grade)
    found = {"pairs": len(pairs), "flipped": sum(pair.flipped for pair in pairs)}
    return found | ({"grades": dict(sorted(grades.items()))} if grades else {})
