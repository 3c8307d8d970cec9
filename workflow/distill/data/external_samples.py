"""Teacher samples from outside, checked row by row: JSONL rows of ids or of texts, or records of fixed length as
MiniLLM's tools write.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from distill.data.tokens import encode_example, encode_prompt, encode_text, vocabulary_size
from distill.errors import DataError
from distill.files import read_jsonl
from distill.records import Example, Sample, clean_response, iterate_samples, iterate_text_samples


def _squeeze(text: str) -> str:
    return "".join(text.split())


def _problem(sample: Sample, example: Example | None, tokenizer: Tokenizer, size: int, eos_id: int) -> str | None:
    """Returns what is wrong with a row as `expected ..., found ...`; None if nothing is."""
    if example is None:
        return f"expected the id of a train or dev example of this study, found {sample.id!r}"
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


def _encoded(
    path: Path, examples: Mapping[str, Example], tokenizer: Tokenizer, eos_id: int, wrapper: str, longest: int
) -> Iterator[Sample]:
    """Yields the rows of texts as samples; a response of more tokens than `longest` is cut there, as sampling cuts."""
    counts = Counter[str]()
    for (line, _), row in zip(read_jsonl(path), iterate_text_samples(path), strict=True):
        text, example = clean_response(row.response), examples.get(row.id)
        if not text:
            raise DataError(f"{path}:{line}: expected a response, found an empty text; fix or delete this line")
        prompt = encode_prompt(tokenizer, wrapper, example.instruction, example.input) if example else []
        response = encode_text(tokenizer, text) + [eos_id] * row.finished
        number = counts[row.id] if row.sample is None else row.sample
        counts[row.id] += 1
        yield Sample(row.id, number, prompt, response[:longest], row.finished and len(response) <= longest)


def read_external_samples(
    path: Path,
    train: Sequence[Example],
    dev: Sequence[Example],
    tokenizer: Tokenizer,
    eos_id: int,
    *,
    wrapper: str,
    response_tokens: int,
) -> list[Sample]:
    """Returns the samples of a JSONL file, training prompts first, then by id and sample; dev prompts become held out.

    Rows of texts are encoded as train's are, behind the study's own prompts; the first row tells which kind they are.

    Args:
        path: rows of `Sample` or of `TextSample`.
        train: the study's training examples.
        dev: its dev examples.
        tokenizer: the study's.
        eos_id: its EOS.
        wrapper: name of the prompt wrapper.
        response_tokens: longest response, EOS included; a longer text is cut there and is not finished.

    Raises:
        DataError: a row lacks a field, has an unknown id, an empty response, foreign token ids or a wrong EOS, or
            repeats another row's id and sample; or prompts of train or of dev have no sample at all.
    """
    examples = {example.id: example for example in (*dev, *train)}
    held_out = {example.id for example in dev} - {example.id for example in train}
    lines: dict[tuple[str, int], int] = {}
    samples, size, found = [], vocabulary_size(tokenizer), iterate_samples(path)
    if "response" in next((row for _, row in read_jsonl(path)), {}):
        found = _encoded(path, examples, tokenizer, eos_id, wrapper, response_tokens)
    for (line, _), sample in zip(read_jsonl(path), found, strict=True):
        problem = _problem(sample, examples.get(sample.id), tokenizer, size, eos_id)
        first = lines.setdefault((sample.id, sample.sample), line)
        if problem is None and first != line:
            problem = f"expected one row of id {sample.id} and sample {sample.sample}, found another in line {first}"
        if problem:
            raise DataError(f"{path}:{line}: {problem}; fix or delete this line")
        samples.append(replace(sample, held_out=sample.id in held_out))
    counts = [sum(sample.held_out == part for sample in samples) for part in (False, True)]
    if 0 in counts:
        raise DataError(
            f"{path}: expected samples of train prompts, to learn from, and of dev prompts, to watch the objective on, "
            f"found {counts[0]} and {counts[1]}; add the missing ones"
        )
    return sorted(samples, key=lambda sample: (sample.held_out, sample.id, sample.sample))


# MiniLLM's builder takes 16-bit ids for vocabularies below this, 32-bit ids above. Its separator is the type's largest
# value; its readers know 65535 too, a token of a vocabulary as large as Qwen's, so the separator's place decides.
_SMALL_VOCABULARY, _SEPARATORS = 65_500, (np.iinfo(np.uint16).max, np.iinfo(np.int32).max)
_BLOCK = 4096


def _cut(
    record: np.ndarray, prompt_tokens: int, eos_id: int, vocabulary: int, place: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns prompt and response ids of a record without their padding; the response keeps its first EOS."""
    separator, prompt, response = record[prompt_tokens], record[:prompt_tokens], record[prompt_tokens + 1 :]
    if separator not in _SEPARATORS:
        raise DataError(
            f"{place}: expected the separator {' or '.join(map(str, _SEPARATORS))} behind {prompt_tokens} prompt ids, "
            f"found {separator}; set data.max_prompt_tokens and teacher_samples.max_new_tokens to the file's lengths, "
            "and models.teacher to the family that it was made with"
        )
    starts, ends = np.flatnonzero(prompt != eos_id), np.flatnonzero(response == eos_id)
    prompt = prompt[starts[0] :] if len(starts) else prompt[:0]
    response = response[: ends[0] + 1] if len(ends) else response
    ids = np.concatenate([prompt, response])
    if not (len(prompt) and 0 <= ids.min() <= ids.max() < vocabulary):
        raise DataError(
            f"{place}: expected prompt ids, and all ids from 0 to {vocabulary - 1}, the tokenizer's, found "
            f"{len(prompt)} prompt ids, and ids up to {ids.max()}; set models.teacher to the family of the file"
        )
    return prompt, response


def read_fixed_records(
    path: Path,
    train: Sequence[Example],
    dev: Sequence[Example],
    tokenizer: Tokenizer,
    eos_id: int,
    *,
    wrapper: str,
    prompt_tokens: int,
    response_tokens: int,
    held_out_prompts: int,
) -> tuple[list[Sample], dict[str, int]]:
    """Returns the samples of a file of fixed records, ordered as `read_external_samples` does, and what was counted.

    A record is `prompt_tokens` ids padded with EOS on the left, a separator, and `response_tokens` ids padded with EOS
    on the right: 16-bit ids for a vocabulary below 65,500, else 32-bit ids. It belongs to the example whose wrapped
    prompt has the same ids; the n-th record of an example is its sample n. Where no record has a prompt of dev, the
    first `held_out_prompts` training examples that have samples are held out.

    Returns:
        The samples, and {records, unmatched_records, held_out_training_prompts}; unmatched records are left out.

    Raises:
        DataError: the file is no whole number of records, a record has another separator, no prompt or an id that the
            tokenizer lacks, or no training prompt is left to learn from.
    """
    vocabulary = vocabulary_size(tokenizer)
    kind = np.dtype("<u2" if vocabulary < _SMALL_VOCABULARY else "<i4")
    length, size = prompt_tokens + 1 + response_tokens, path.stat().st_size
    if size == 0 or size % (length * kind.itemsize):
        raise DataError(
            f"{path}: expected records of {prompt_tokens} + 1 + {response_tokens} ids of {kind.itemsize} bytes, found "
            f"{size} bytes; set data.max_prompt_tokens and teacher_samples.max_new_tokens to the file's lengths"
        )
    records = np.memmap(path, kind, "r", shape=(size // (length * kind.itemsize), length))
    examples: dict[bytes, str] = {}
    for example in (*train, *dev):
        ids = encode_example(tokenizer, wrapper, example, eos_id).prompt_ids
        examples.setdefault(np.array(ids, kind).tobytes(), example.id)
    samples, counts = [], Counter[str]()
    for start in range(0, len(records), _BLOCK):
        for number, record in enumerate(np.array(records[start : start + _BLOCK]), start + 1):
            prompt, response = _cut(record, prompt_tokens, eos_id, vocabulary, f"{path} record {number}")
            if (id := examples.get(prompt.tobytes())) is not None:
                finished = bool(response[-1] == eos_id)
                samples.append(Sample(id, counts[id], prompt.tolist(), response.tolist(), finished))
                counts[id] += 1
    held_out = {example.id for example in dev if example.id in counts} - {example.id for example in train}
    taken = [] if held_out else [example.id for example in train if example.id in counts][:held_out_prompts]
    held_out |= set(taken)
    if not counts.keys() - held_out:
        first, _ = _cut(records[0], prompt_tokens, eos_id, vocabulary, str(path))
        text = " ".join(tokenizer.decode(first.tolist()).split())
        raise DataError(
            f"{path}: expected more training prompts of this study than the {held_out_prompts} to hold out, found "
            f"{len(counts)} prompts of it in {len(records)} records, the first of which reads {text[:80]!r}; set "
            "data.instructions, data.wrapper and models.teacher to those that the file was made with"
        )
    samples = [replace(sample, held_out=sample.id in held_out) for sample in samples]
    return sorted(samples, key=lambda sample: (sample.held_out, sample.id, sample.sample)), {
        "records": len(records),
        "unmatched_records": len(records) - len(samples),
        "held_out_training_prompts": len(taken),
    }
