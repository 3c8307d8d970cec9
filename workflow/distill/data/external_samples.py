"""Teacher samples from outside, checked row by row."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tokenizers import Tokenizer

from distill.errors import DataError
from distill.files import read_jsonl
from distill.records import Example, Sample, read_samples


def _squeeze(text: str) -> str:
    return "".join(text.split())


def _problem(sample: Sample, example: Example | None, tokenizer: Tokenizer, eos_id: int) -> str | None:
    """Returns what is wrong with a row as `expected ..., found ...`; None if nothing is."""
    if example is None:
        return f"expected the id of a train or dev example of this study, found {sample.id!r}"
    size = tokenizer.get_vocab_size()
    for name, ids in (("prompt_ids", sample.prompt_ids), ("response_ids", sample.response_ids)):
        if not ids:
            return f"expected {name} with a token at least, found none"
        if not 0 <= min(ids) <= max(ids) < size:
            return f"expected {name} from 0 to {size - 1}, the tokenizer's ids, found {min(ids)} to {max(ids)}"
    if _squeeze(example.instruction) not in _squeeze(tokenizer.decode(sample.prompt_ids, skip_special_tokens=False)):
        return f"expected prompt_ids that spell the instruction of example {sample.id}, found another text"
    if eos_id in sample.response_ids[:-1]:
        return f"expected EOS {eos_id} only at the end of response_ids, found it before"
    if (sample.response_ids[-1] == eos_id) != sample.finished:
        last = sample.response_ids[-1]
        return (
            f"expected finished to tell whether response_ids end with EOS {eos_id}, found {sample.finished} and {last}"
        )
    return None


def read_external_samples(
    path: Path, train: Sequence[Example], dev: Sequence[Example], tokenizer: Tokenizer, eos_id: int
) -> list[Sample]:
    """Returns the samples of a JSONL file, training prompts first, then by id and sample; dev prompts become held out.

    Raises:
        DataError: a row lacks a field, has an unknown id, foreign token ids or a wrong EOS, or repeats another row's id
            and sample; or prompts of train or of dev have no sample at all.
    """
    examples = {example.id: example for example in (*dev, *train)}
    held_out = {example.id for example in dev} - {example.id for example in train}
    lines: dict[tuple[str, int], int] = {}
    samples = []
    for (line, _), sample in zip(read_jsonl(path), read_samples(path), strict=True):
        problem = _problem(sample, examples.get(sample.id), tokenizer, eos_id)
        first = lines.setdefault((sample.id, sample.sample), line)
        if problem is None and first != line:
            problem = f"expected one row of id {sample.id} and sample {sample.sample}, found another in line {first}"
        if problem:
            raise DataError(f"{path}:{line}: {problem}; mend or delete this line")
        samples.append(replace(sample, held_out=sample.id in held_out))
    counts = [sum(sample.held_out == part for sample in samples) for part in (False, True)]
    if 0 in counts:
        raise DataError(
            f"{path}: expected samples of train prompts, to learn from, and of dev prompts, to watch the objective on, "
            f"found {counts[0]} and {counts[1]}; add the missing ones"
        )
    return sorted(samples, key=lambda sample: (sample.held_out, sample.id, sample.sample))
