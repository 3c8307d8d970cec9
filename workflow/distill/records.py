"""The rows of the study's JSONL files, typed and checked on reading."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from distill.errors import DataError
from distill.files import digest_value, read_jsonl


def clean_response(text: str) -> str:
    """Returns a decoded response as it is kept, scored and judged: stripped. What spells a special token is text."""
    return text.strip()


class Row:
    """What all rows share: checked types, no unknown fields."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    def to_dict(self) -> dict:
        """Returns the JSON object of the row."""
        return dict(vars(self))


@dataclass(frozen=True)
class Example(Row):
    """An instruction with an optional input ("" if none) and its valid answers: one string or a list of several."""

    id: str
    instruction: str
    input: str
    output: str | list[str]
    category: str

    @classmethod
    def of(cls, instruction: str, input: str, output: str | list[str], category: str) -> "Example":
        """Returns the example with its id: the first 16 hex digits of the digest of all but the category."""
        return cls(digest_value([instruction, input, output])[:16], instruction, input, output, category)

    @property
    def references(self) -> list[str]:
        """Returns the valid answers as a list; training uses the first."""
        return [self.output] if isinstance(self.output, str) else self.output


@dataclass(frozen=True)
class PreferencePair(Row):
    """A prompt with two responses, of which `chosen` is preferred.

    `grade`: how many concepts are wrong in the better and in the worse response, as `0-2`; "" where nobody knows.
    `flipped` marks a label that was turned round on purpose: the better response is `rejected`.
    """

    id: str
    instruction: str
    input: str
    chosen: str
    rejected: str
    category: str = ""
    grade: str = ""
    flipped: bool = False

    @classmethod
    def of(
        cls,
        instruction: str,
        input: str,
        chosen: str,
        rejected: str,
        category: str = "",
        grade: str = "",
        flipped: bool = False,
    ) -> "PreferencePair":
        """Returns the pair with its id: the first 16 hex digits of the digest of its texts."""
        digest = digest_value([instruction, input, chosen, rejected])[:16]
        return cls(digest, instruction, input, chosen, rejected, category, grade, flipped)


@dataclass(frozen=True)
class Sample(Row):
    """A response that the teacher sampled to an example's prompt; `response_ids` end with EOS iff `finished`.

    `held_out` marks a dev prompt's sample, which is watched and not trained on.
    """

    id: str
    sample: int
    prompt_ids: list[int]
    response_ids: list[int]
    finished: bool
    held_out: bool = False


@dataclass(frozen=True)
class TextSample(Row):
    """A response to an example's prompt as text, of a teacher that only speaks.

    `sample` tells responses to one prompt apart; left out, they count in the file's order. `finished` is false for a
    response that was cut.
    """

    id: str
    response: str
    sample: int | None = None
    finished: bool = True


@dataclass(frozen=True)
class Generation(Row):
    """A response of an evaluated model; `tokens` counts the generated ones, EOS included."""

    id: str
    dataset: str
    seed: int
    decoding: str
    prompt: str
    response: str
    tokens: int
    finished: bool


Kind = TypeVar("Kind", bound=Row)


def _rows(kind: type[Kind], path: Path | str) -> Iterator[Kind]:
    adapter = TypeAdapter(kind)
    for number, row in read_jsonl(path):
        try:
            yield adapter.validate_python(row)
        except ValidationError as error:
            first = error.errors()[0]
            raise DataError(
                f"{path}:{number}: expected a row of {kind.__name__}, found a problem at "
                f"`{'.'.join(map(str, first['loc']))}` ({first['msg']}); fix the line or rerun the file's rule"
            ) from error


def read_examples(path: Path | str) -> list[Example]:
    """Returns the examples of a JSONL file.

    Raises:
        DataError: the file is missing, or a line is malformed, lacks a field, or has an unknown one or a wrong type.
    """
    return [*_rows(Example, path)]


def iterate_samples(path: Path | str) -> Iterator[Sample]:
    """Yields the teacher's samples of a JSONL file as it is read; errors as for `read_examples`."""
    return _rows(Sample, path)


def iterate_text_samples(path: Path | str) -> Iterator[TextSample]:
    """Yields the responses of a JSONL file of texts as it is read; errors as for `read_examples`."""
    return _rows(TextSample, path)


def read_samples(path: Path | str) -> list[Sample]:
    """Returns the teacher's samples of a JSONL file; errors as for `read_examples`.

    Equal token ids are one object, and so are equal prompts that follow each other: 8 bytes a token instead of 36.
    """
    ids: dict[int, int] = {}
    samples: list[Sample] = []
    for sample in iterate_samples(path):
        prompt, response = ([ids.setdefault(id, id) for id in own] for own in (sample.prompt_ids, sample.response_ids))
        if samples and samples[-1].prompt_ids == prompt:
            prompt = samples[-1].prompt_ids
        samples.append(replace(sample, prompt_ids=prompt, response_ids=response))
    return samples


def read_pairs(path: Path | str) -> list[PreferencePair]:
    """Returns the preference pairs of a JSONL file; errors as for `read_examples`."""
    return [*_rows(PreferencePair, path)]
