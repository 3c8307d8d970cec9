"""Rows from a generator, a local file or the Hugging Face Hub, brought to one schema."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from distill.config.keys import config_key
from distill.config.sources import FileSource, HubSource, Source, SumsSource, SumsText, TextSource, WorldSource
from distill.data.plain_text import split_documents
from distill.data.sums import Part, draw_documents, generate_sums
from distill.data.world import World, generate_world
from distill.errors import ConfigError, DataError
from distill.files import read_jsonl
from distill.records import Example

INSTRUCTION, INPUT, OUTPUT = ("instruction",), ("input", "context"), ("output", "response")
TEXT, CATEGORY = ("text",), ("category", "topic", "motivation_app")


def _field(row: dict, names: tuple[str, ...], place: str) -> Any:
    """Returns the value of the one of a field's names that is filled; of null or blank ones the first.

    Raises:
        DataError: the row has none of the names, or several that are filled differently.
    """
    found = {name: row[name] for name in names if name in row}
    listed = " or ".join(f"`{name}`" for name in names)
    if not found:
        raise DataError(
            f"{place}: expected the field {listed}, found the fields "
            f"{', '.join(f'`{name}`' for name in row) or '(none)'}; rename or add the field"
        )
    filled = [
        value for value in found.values() if not (value is None or (isinstance(value, str) and not value.strip()))
    ]
    if any(value != filled[0] for value in filled):
        raise DataError(f"{place}: expected {listed}, found several, filled differently; keep the one that is meant")
    return (filled or [*found.values()])[0]


def _checked(text: Any, names: tuple[str, ...], place: str) -> str:
    if not isinstance(text, str) or not text.strip():
        found = "an empty one" if isinstance(text, str) else f"{type(text).__name__}"
        raise DataError(
            f"{place}: expected a non-empty string as {' or '.join(f'`{name}`' for name in names)}, found {found}; "
            "delete the row or fill the field"
        )
    return text


def normalise_row(row: dict, place: str) -> list[Example]:
    """Returns the examples of a row in Dolly's, MiniLLM's or SelfInst's schema.

    Dolly names the input `context` and the output `response`; MiniLLM's files have `output` as a string or a list of
    references, and a ready `prompt` beside texts in which `<n>` may stand for a newline; raw SelfInst has a list of
    `instances`, each with input and output, which become one example each. Other fields are ignored.

    Args:
        row: the JSON object.
        place: `file:line` or the like; the errors begin with it.

    Raises:
        DataError: a field is missing, has a wrong type or two values under two names, or the instruction or an answer
            is empty.
    """
    if "instances" in row:
        instances = row["instances"]
        if not (isinstance(instances, list) and instances) or any(
            not isinstance(instance, dict) or "instances" in instance for instance in instances
        ):
            raise DataError(f"{place}: expected a list of objects as `instances`, found other values; fix the row")
        rest = {name: value for name, value in row.items() if name != "instances"}
        return [example for instance in instances for example in normalise_row(rest | instance, place)]

    def text(value: str) -> str:
        return value.replace("<n>", "\n") if "prompt" in row else value

    instruction = _checked(_field(row, INSTRUCTION, place), INSTRUCTION, place)
    output = _field(row, OUTPUT, place)
    answers = [text(_checked(answer, OUTPUT, place)) for answer in (output if isinstance(output, list) else [output])]
    if not answers:
        raise DataError(f"{place}: expected an answer in {' or '.join(OUTPUT)}, found an empty list; delete the row")
    input = _field({"input": None} | row, INPUT, place)
    if not isinstance(input, str | None):
        raise DataError(f"{place}: expected a string as `input`, found {type(input).__name__}; fix the row")
    category = next((str(row[name]) for name in CATEGORY if row.get(name) is not None), "")
    return [Example.of(text(instruction), text(input or ""), answers[0] if len(answers) == 1 else answers, category)]


def _world_rows(name: str, rows: int, seed: int) -> list[dict]:
    if name == "plain_text":
        return [{"text": text} for text in generate_world(seed, 0, 0, rows).plain_text]
    if name == "instructions":
        return generate_world(seed, rows, 0, 0).instructions
    sets = [field for field in World.__dataclass_fields__ if field not in ("instructions", "plain_text")]
    if name not in sets:
        raise ConfigError(
            f"{config_key(name)}: expected one of the world's sets {', '.join(sets)}, found {name!r}; rename the set "
            "or give it kind: split, file or hub"
        )
    return getattr(generate_world(seed, 0, rows, 0), name)


def _sums_rows(source: SumsSource, name: str, seed: int) -> list[dict]:
    if isinstance(source, SumsText):
        return [{"text": text} for text in draw_documents(source.rows, source.digits, source.worked_share, seed)]
    parts: dict[str, Part] = {"instructions": "train", "dev": "dev", "sums": "test"}
    if name not in parts:
        raise ConfigError(
            f"{config_key(name)}: expected `sums` as the name of the one evaluation set of kind sums, found {name!r}; "
            "rename the set or give it kind: world, file or hub"
        )
    return generate_sums(parts[name], source.rows, source.digits, seed)


def _hub_rows(source: HubSource, name: str) -> Iterator[dict]:
    import datasets  # three seconds; only a study on the hub pays them
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().dataset_info(source.repository, revision=source.revision, timeout=10)
    except HfHubHTTPError:
        pass  # an answer; load_dataset says what it means
    except Exception:  # no answer: only the cache is left, and load_dataset would retry for half a minute first
        datasets.config.HF_HUB_OFFLINE = True
    where = f"dataset {source.repository} at revision {source.revision}"
    fix = f"set {config_key(name)} to kind: file with a copy of it"
    try:
        # A prefix is streamed, so that the first rows of OpenWebText do not cost its 40 GB.
        yield from datasets.load_dataset(
            source.repository, revision=source.revision, split=source.split, streaming=source.rows is not None
        )
    except ConnectionError as error:
        endpoint = os.environ.get("HF_ENDPOINT", "huggingface.co")
        raise DataError(
            f"{config_key(name)}: {endpoint} cannot be reached for {where}; run gather_source where the hub can be "
            f"reached, or {fix}"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(
            f"{config_key(name)}: expected {where}, split {source.split}, found {error}; correct the key or {fix}"
        ) from error


def read_rows(source: Source | TextSource, name: str, seed: int, file: Path | None) -> Iterator[tuple[str, dict]]:
    """Yields (place, row) of a source, as it is stored.

    Args:
        source: where from.
        name: `instructions`, `dev`, `plain_text`, or an evaluation set's name; picks what a generator makes.
        seed: of a generator (data.world_seed).
        file: the local file of a `file` source; for plain text a `.txt` has blank lines between documents; all else is
            JSONL.

    Raises:
        ConfigError: the generator has no such set.
        DataError: the file is missing or malformed, the hub gives no data, or a generator has fewer rows.
    """
    if isinstance(source, WorldSource):
        rows = ((f"world {name}:{number}", row) for number, row in enumerate(_world_rows(name, source.rows, seed), 1))
    elif isinstance(source, SumsSource):
        rows = ((f"sums {name}:{number}", row) for number, row in enumerate(_sums_rows(source, name, seed), 1))
    elif isinstance(source, HubSource):
        rows = (
            (f"{source.repository} ({source.split}) row {number}", row)
            for number, row in enumerate(_hub_rows(source, name), 1)
        )
    elif name == "plain_text" and file and file.suffix == ".txt":
        try:
            texts = split_documents(file.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: expected UTF-8 text, found {error}; convert the file to UTF-8") from error
        rows = ((f"{file} document {number}", {"text": text}) for number, text in enumerate(texts, 1))
    else:
        assert file is not None, "a `file` source has its file"
        rows = ((f"{file}:{number}", row) for number, row in read_jsonl(file))
    yield from rows


def _where(source: Source, name: str, file: Path | None) -> str:
    return str(file) if isinstance(source, FileSource) else config_key(name)


def gather_examples(source: Source, name: str, seed: int, file: Path | None = None) -> tuple[list[Example], int]:
    """Returns a source's examples, the first `source.rows` distinct ones, and how many repeated rows were left out.

    Raises:
        DataError: there is no row, a row is unusable (see `normalise_row`), or two rows have the same `id` field.
    """
    places: dict[str, str] = {}
    examples: dict[str, Example] = {}
    repeated = 0
    for place, row in read_rows(source, name, seed, file):
        if row.get("id") not in (None, "") and (first := places.setdefault(str(row["id"]), place)) != place:
            raise DataError(
                f"{place}: expected a new id, found {row['id']!r} of {first} again; delete or renumber one of them"
            )
        for example in normalise_row(row, place):
            repeated += example.id in examples
            examples.setdefault(example.id, example)
        if source.rows is not None and len(examples) >= source.rows:
            break
    if not examples:
        raise DataError(
            f"{_where(source, name, file)}: expected at least one row, found none; check {config_key(name)}"
        )
    return list(islice(examples.values(), source.rows)), repeated


def gather_documents(source: Source, seed: int, file: Path | None = None) -> Iterator[str]:
    """Yields a source's plain-text documents, the first `source.rows` that are not blank.

    Raises:
        DataError: there is none, or a row has no string `text`.
    """

    def texts() -> Iterator[str]:
        for place, row in read_rows(source, "plain_text", seed, file):
            text = _field(row, TEXT, place)
            if not isinstance(text, str):
                raise DataError(f"{place}: expected a string as `text`, found {type(text).__name__}; fix the row")
            if text.strip():
                yield text

    found = islice(texts(), source.rows)
    first = next(found, None)
    if first is None:
        raise DataError(
            f"{_where(source, 'plain_text', file)}: expected at least one document, found none; check data.plain_text"
        )
    yield first
    yield from found
