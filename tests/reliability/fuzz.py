"""Feeds odd bytes to everything that reads what somebody else wrote, and looks at what comes back.

    export PYTHONPATH=workflow:tests/helpers
    .venv/bin/python tests/reliability/fuzz.py --minutes 10 --seed 1 > fuzz.csv

Each target starts from something that is right and changes it: values of JSON, or bytes. What may come back is a valid
result, or an error of the project in one line that a terminal can show. Printed by target: the examples tried, how many
of them were read, and the first fault. Another exception, a longer message, or five seconds of CPU are faults.
"""

import argparse
import csv
import json
import logging
import math
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import torch
import yaml
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from distill.audit.archive import Archive, read_entries
from distill.audit.graph import mermaid
from distill.audit.show import tell
from distill.audit.verify import verify
from distill.candidates.store import load_candidate_sets, save_candidate_sets
from distill.config.given_models import FolderModel
from distill.config.judge import Judging
from distill.config.sources import FileSource
from distill.data.external_samples import read_external_samples, read_fixed_records
from distill.data.pairs import count_pairs, read_pair_file
from distill.data.sources import gather_documents, gather_examples
from distill.data.tokens import encode_example, load_tokenizer
from distill.errors import LONGEST, DistillError
from distill.files import digest_value, load_manifest, read_json, write_jsonl
from distill.judging.batch_judge import BatchJudge
from distill.judging.protocol import Verdict
from distill.losses.candidate_sets import top_p_sets
from distill.models.external import copy_external_model
from distill.models.locate import locate
from distill.models.vocabulary import check_vocabulary
from distill.records import Example, PreferencePair, Sample, read_examples, read_pairs, read_samples
from distill.remote.journal import Journal
from distill.remote.replies import Answer, classify
from distill.study.load import check_config_files, load_study
from distill.study.places import named_places, results_folder
from small_archive import make_small_archive, small_config
from tiny_models import EOS_ID, make_model

LIMIT_S = 5.0
"""CPU seconds of an example: what takes more hangs."""
WRAPPER = "alpaca"


class Hang(BaseException):
    """No result within `LIMIT_S`; no handler of exceptions may take it for one of its own."""


# --- what is fed ---------------------------------------------------------------------------------------------------

ODD_TEXTS = (
    *("", " ", "\x00", "\x1b[2J", "\u202e", "\u2028", "\ud800", "\udfff\ud800", "<|endoftext|>", "</s>", "=1+1", "{x}"),
    *("a" * 5000, "a\nb\r\n", "NaN", "../x", "/", "~", "${HOME}", "<n>", "\ufeff", "𝄞" * 300, "0" * 64, "cp311"),
)
ODD_NUMBERS = (0, -1, 1, 2**31, 2**53 + 1, 2**63, -(2**64), 10**400, math.nan, math.inf, -math.inf, 1e308, -0.0, 0.5)
ODD_BYTES = (
    *(b"\xef\xbb\xbf", b"\xff", b"\x00", b"\n", b"\\ud800", b"\\u0000", b'"a":1,"a":2,', b"9" * 5000, b"[" * 5000),
    *(
        b"null",
        b"{}",
        b"[]",
        b'""',
        b"-",
        b"1e999",
        b"NaN",
        b",",
        b"}",
        b'"',
        b":",
        b"\\",
        b"{" * 3,
        b"!!python/object:",
    ),
    *(b"[" * depth + b"]" * depth for depth in (100, 900, 985)),
)


def nested(depth: int) -> Any:
    """Returns a list within a list, so many times."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


TEXTS = st.sampled_from(ODD_TEXTS) | st.text(st.characters(exclude_categories=()), max_size=12)
LEAVES = st.none() | st.booleans() | st.sampled_from(ODD_NUMBERS) | st.integers() | TEXTS
VALUES = (
    LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(TEXTS, LEAVES | st.lists(LEAVES, max_size=2), max_size=3)
)
VALUES |= st.sampled_from([100, 400, 900]).map(nested)
"""Of JSON, odd ones above all."""


@st.composite
def changed(draw, value: Any, most: int = 3) -> Any:
    """Returns a JSON value with up to so many changes, each at a place of its own."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(0, most))):
        value = _changed_once(draw, value)
    return value


def _changed_once(draw, value: Any) -> Any:
    keys = [*value] if isinstance(value, dict) else [*range(len(value))] if isinstance(value, list) else []
    if not keys or draw(st.integers(0, 9)) == 0:
        return draw(VALUES)
    key, act = draw(st.sampled_from(keys)), draw(st.sampled_from(["deeper", "deeper", "deeper", "put", "drop", "add"]))
    if act == "drop":
        del value[key]
    elif act == "add" and isinstance(value, dict):
        value[draw(TEXTS)] = draw(VALUES)
    elif act == "put":
        value[key] = draw(VALUES)
    else:
        value[key] = _changed_once(draw, value[key])
    return value


@st.composite
def damaged(draw, content: bytes, most: int = 3) -> bytes:
    """Returns bytes with up to so many pieces flipped, cut, doubled or put in."""
    for _ in range(draw(st.integers(0, most))):
        place = draw(st.integers(0, len(content)))
        act = draw(st.sampled_from(["flip", "put", "put", "end", "drop", "swap"]))
        if act == "flip":
            content = content[:place] + bytes(
                [byte ^ 1 << draw(st.integers(0, 7)) for byte in content[place : place + 1]]
            )
        elif act == "put":
            content = content[:place] + draw(st.sampled_from(ODD_BYTES) | st.binary(max_size=4)) + content[place:]
        elif act == "end":
            content = content[:place]
        elif act == "drop":
            content = content[:place] + content[place + draw(st.integers(1, 40)) :]
        else:
            content = content[place:] + content[:place]
    return content


@st.composite
def bytes_of(draw, value: Any, most: int = 3) -> bytes:
    """Returns a JSON text that is right, has other values, or other bytes."""
    if draw(st.booleans()):
        return json.dumps(draw(changed(value, most))).encode()
    return draw(damaged(json.dumps(value).encode(), most))


@st.composite
def lines_of(draw, rows: list[dict]) -> bytes:
    """Returns a JSONL file of rows, of which some are odd."""
    kept = draw(st.lists(st.sampled_from(rows), max_size=3))
    odd = [draw(bytes_of(row)) for row in draw(st.lists(st.sampled_from(rows), min_size=1, max_size=2))]
    lines = draw(st.permutations([*(json.dumps(row).encode() for row in kept), *odd]))
    return b"\n".join(lines) + b"\n" * draw(st.integers(0, 1))


# --- who reads it --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """What is fed, and the reader, which returns a result or raises an error of the project."""

    inputs: st.SearchStrategy
    read: Callable[[Any], Any]


class Readers:
    """All targets, over one folder of small things that are right; made when they are first needed."""

    def __init__(self, place: Path):
        self.place = place

    @cached_property
    def model(self) -> Path:
        return make_model(self.place / "good", "qwen2", layers=1)

    @cached_property
    def tokenizer(self):
        return load_tokenizer(self.model)[0]

    def examples(self) -> list[Example]:
        return [
            Example.of(f"Name thing {i}.", "a\nb" * (i % 2), [f"thing {i}", "x"][: 1 + i % 2], "qa") for i in range(4)
        ]

    def file(self, content: bytes, name: str = "rows.jsonl") -> Path:
        path = self.place / name
        path.write_bytes(content)
        return path

    def targets(self) -> dict[str, Target]:
        """Returns all targets by name."""
        return {
            name.removesuffix("_target").removeprefix("_"): getattr(self, name)()
            for name in dir(type(self))
            if name.endswith("_target")
        }

    def _rows_of_the_study_target(self) -> Target:
        examples = self.examples()
        samples = [Sample(e.id, i, [5, 6], [7, EOS_ID], True) for i, e in enumerate(examples)]
        pairs = [PreferencePair.of("Say.", "", f"good {i}", "bad") for i in range(3)]
        kinds = [(read_examples, examples), (read_samples, samples), (read_pairs, pairs)]

        def read(given: tuple[int, bytes]) -> None:
            reader, path = kinds[given[0]][0], self.file(given[1])
            write_jsonl(self.place / "again.jsonl", (row.to_dict() for row in reader(path)))

        return Target(
            st.sampled_from(range(len(kinds))).flatmap(
                lambda i: st.tuples(st.just(i), lines_of([row.to_dict() for row in kinds[i][1]]))
            ),
            read,
        )

    def _source_rows_target(self) -> Target:
        rows = [
            {"instruction": "Name a thing.", "context": "", "response": "a thing", "category": "qa", "id": 1},
            {"instruction": "Add.", "input": "1 2", "output": ["3", "three"], "topic": "sums"},
            {"instruction": "Name.", "instances": [{"input": "", "output": "x"}, {"input": "y", "output": "z"}]},
            {"prompt": "p", "instruction": "a<n>b", "input": "", "output": "c<n>", "id": "q"},
        ]

        def read(content: bytes) -> None:
            path = self.file(content)
            source = FileSource(kind="file", path=str(path))
            examples, _ = gather_examples(source, "instructions", 1, path)
            write_jsonl(self.place / "again.jsonl", (example.to_dict() for example in examples))
            for example in examples:
                encode_example(self.tokenizer, WRAPPER, example, EOS_ID)

        return Target(lines_of(rows), read)

    def _documents_target(self) -> Target:
        def read(given: tuple[str, bytes]) -> None:
            path = self.file(given[1], f"documents{given[0]}")
            texts = gather_documents(FileSource(kind="file", path=str(path)), 1, path)
            write_jsonl(self.place / "again.jsonl", ({"text": text} for text in texts))

        rows = lines_of([{"text": "A river.\n\nA bridge."}, {"text": " "}, {"text": "x", "meta": {"a": 1}}])
        plain = damaged("A river.\n\nA bridge.\n \n\u00e9\n".encode())
        return Target(st.tuples(st.just(".jsonl"), rows) | st.tuples(st.just(".txt"), plain), read)

    def _preference_pairs_target(self) -> Target:
        rows = [{"prompt": f"Say {i}.", "chosen": f"good {i}", "rejected": "bad"} for i in range(3)]

        def read(content: bytes) -> None:
            pairs = read_pair_file(self.file(content))
            count_pairs(pairs)
            write_jsonl(self.place / "again.jsonl", (pair.to_dict() for pair in pairs))

        return Target(lines_of(rows), read)

    def _samples_from_outside_target(self) -> Target:
        examples = self.examples()
        train, dev = examples[:2], examples[2:]
        rows = []
        for example in examples:
            prompt = encode_example(self.tokenizer, WRAPPER, example, EOS_ID).prompt_ids
            rows += [Sample(example.id, i, prompt, [9, 8, EOS_ID], True).to_dict() for i in range(2)]

        def read(content: bytes) -> None:
            path = self.file(content + b"\n" + b"\n".join(json.dumps(rows[i]).encode() for i in (1, 5)))
            given = (train, dev, self.tokenizer, EOS_ID)
            samples = read_external_samples(path, *given, wrapper=WRAPPER, response_tokens=8)
            write_jsonl(self.place / "again.jsonl", (sample.to_dict() for sample in samples))

        texts = [{"id": example.id, "response": "so", "sample": 0} for example in examples]
        return Target(lines_of(rows[::2]) | lines_of(texts), read)

    def _records_of_fixed_length_target(self) -> Target:
        examples = self.examples()
        own = [encode_example(self.tokenizer, WRAPPER, example, EOS_ID).prompt_ids for example in examples]
        length = max(map(len, own)) + 1
        records = [[EOS_ID] * (length - len(ids)) + ids + [65535, 9, 8, EOS_ID] for ids in own]

        def read(content: bytes) -> None:
            read_fixed_records(
                self.file(content, "records.bin"), examples[:3], examples[3:], self.tokenizer, EOS_ID,
                wrapper=WRAPPER, prompt_tokens=length, response_tokens=3, held_out_prompts=1,
            )  # fmt: skip

        return Target(damaged(np.array(records, "<u2").tobytes()), read)

    def _config_target(self) -> Target:
        configs = [small_config(), yaml.safe_load((ROOT / "config.yaml").read_text())]
        configs += [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "presets").glob("*.yaml"))]

        def read(config: Any) -> None:
            study = load_study(config)
            results_folder(study)
            named_places(study)

        return Target(st.sampled_from(configs).flatmap(changed), read)

    def _config_file_target(self) -> Target:
        content = (ROOT / "tests/fixtures/micro.yaml").read_bytes()

        def read(content: bytes) -> None:
            path = self.file(content, "config.yaml")
            check_config_files([path])
            load_study(yaml.safe_load(content))

        return Target(damaged(content), read)

    def _model_folder_target(self) -> Target:
        edited = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")
        index = {"metadata": {}, "weight_map": {"model.norm.weight": "model.safetensors"}}

        def contents() -> dict[str, st.SearchStrategy[bytes]]:
            found = {name: bytes_of(read_json(self.model / name)) for name in edited}
            weights = (self.model / "model.safetensors").read_bytes()
            length = 8 + int.from_bytes(weights[:8], "little")
            header = json.loads(weights[8:length])
            heads = bytes_of(header).map(lambda head: len(head).to_bytes(8, "little") + head)
            found["model.safetensors"] = st.one_of(heads, damaged(weights[:length])).map(lambda h: h + weights[length:])
            return found | {
                "model.safetensors.index.json": bytes_of(index),
                "special_tokens_map.json": bytes_of(
                    {"eos_token": "<|endoftext|>", "pad_token": {"content": "<|pad|>"}}
                ),
            }

        def read(changes: dict[str, bytes]) -> None:
            folder, output = self.place / "given", self.place / "adopted"
            for path in (folder, output):
                shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(self.model, folder)
            output.mkdir()
            for name, content in changes.items():
                (folder / name).write_bytes(content)
            locate(FolderModel(kind="folder", path=str(folder)))
            check_vocabulary(folder, folder, None, (100, "data.max_total_tokens"))
            copy_external_model(folder, folder, output)
            load_tokenizer(folder)

        made = contents()
        return Target(
            st.sets(st.sampled_from([*made]), min_size=1, max_size=2).flatmap(
                lambda names: st.fixed_dictionaries({name: made[name] for name in sorted(names)})
            ),
            read,
        )

    def _candidate_sets_target(self) -> Target:
        lengths, vocabulary = [2, 0, 3], 40
        probs = torch.rand(sum(lengths) + len(lengths), vocabulary, generator=torch.Generator().manual_seed(1))
        sets = top_p_sets((4 * probs).softmax(-1), 0.9)
        path = self.place / "sets" / "000000.safetensors"
        path.parent.mkdir()
        save_candidate_sets(path, sets, lengths, vocabulary, [], {"samples": "s", "teacher": "t"})
        whole = path.read_bytes()
        length = 8 + int.from_bytes(whole[:8], "little")
        header = json.loads(whole[8:length])
        words = json.loads(header["__metadata__"]["candidate_sets"])

        def with_header(head: bytes) -> bytes:
            return len(head).to_bytes(8, "little") + head + whole[length:]

        def with_words(text: bytes) -> bytes:
            return with_header(
                json.dumps(header | {"__metadata__": {"candidate_sets": text.decode("latin1")}}).encode()
            )

        def read(content: bytes) -> None:
            path.write_bytes(content)
            stored = load_candidate_sets([path.parent], "s", lengths, 0.8)
            stored.take([0, 2])
            stored.take([1], with_final_state=False)

        return Target(damaged(whole) | bytes_of(header).map(with_header) | bytes_of(words).map(with_words), read)

    @cached_property
    def archive(self) -> Path:
        make_small_archive(self.place / "results", small_config())
        return self.place / "results"

    def _records_target(self) -> Target:
        study, results = load_study(small_config()), self.archive
        names = ["models/sft", "training/sft", "data/split", "tables.md", "verdicts/bd_sampled-sft"]
        names = [name for name in names if (results / f"{name}.prov.json").is_file()]
        texts = {name: (results / f"{name}.prov.json").read_bytes() for name in names}

        def read(given: tuple[str, bytes]) -> None:
            name, content = given
            record = results / f"{name}.prov.json"
            record.write_bytes(content)
            try:
                archive = Archive(results, ROOT)
                for finding in verify(archive, study, [results / f"{name}.prov.json"]).findings:
                    finding.message.encode()
                if name in archive.artifacts:
                    artifact = archive.artifacts[name]
                    "\n".join(tell(archive, artifact, name)).encode()
                    "\n".join(mermaid(archive, [artifact, *archive.upstream(artifact)])).encode()
            finally:
                record.write_bytes(texts[name])

        return Target(
            st.sampled_from(names).flatmap(lambda name: st.tuples(st.just(name), bytes_of(json.loads(texts[name])))),
            read,
        )

    def _manifests_target(self) -> Target:
        manifest = {"a.jsonl": {"size": 3, "sha256": "0" * 64}, "b/c.safetensors": {"size": 0, "sha256": "f" * 64}}

        def read(content: bytes) -> None:
            path = self.file(content, "COMPLETE")
            for reader in (load_manifest, read_entries):
                reader(path)

        return Target(bytes_of(manifest), read)

    def _judge_replies_target(self) -> Target:
        message = {"role": "assistant", "content": "A", "refusal": None}
        usage = {"prompt_tokens": 90, "completion_tokens": 1, "total_tokens": 91}
        reply = {"id": "r", "model": "m", "system_fingerprint": "f", "usage": usage}
        reply |= {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        parts = reply | {"choices": [{"message": {"content": [{"type": "text", "text": "Tie"}]}}]}
        error = {"error": {"message": "context length", "type": "invalid_request_error", "param": None, "code": 400}}
        body = st.sampled_from([reply, parts, error]).flatmap(bytes_of)
        headers = st.fixed_dictionaries({}, optional={"retry-after": TEXTS | st.sampled_from(["3", "1e400", "nan"])})
        config = Judging(kind="openai", batch=True)
        judge = BatchJudge(config, "k-0123456789", Journal(self.place / "journal" / "verdicts.jsonl", Verdict))

        def read(given: tuple[int, dict, bytes]) -> None:
            status, headers, body = given
            row = json.dumps({"custom_id": "x", "response": {"status_code": status, "body": body.decode("latin1")}})
            for answer in (classify(Answer(status, headers, body)), judge._read(body)[1], judge._read(row.encode())[1]):
                digest_value(vars(answer))
                if answer.kind in ("refused", "failed"):
                    assert answer.text.isprintable(), f"{answer.kind}: {answer.text!r}"

        statuses = st.sampled_from([200, 200, 201, 301, 400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 503, 599])
        return Target(st.tuples(statuses, headers, body), read)

    def _journal_of_verdicts_target(self) -> Target:
        path = self.place / "journal" / "verdicts.jsonl"
        path.parent.mkdir(exist_ok=True)
        with Journal(path, Verdict) as cache:
            cache.put(cache.send(0.5), 0.25)
            cache.name(cache.send(0.1, ("x", "y")), "batch")
        whole = path.read_bytes()

        def read(content: bytes) -> None:
            path.write_bytes(content)
            with Journal(path, Verdict) as cache:
                assert math.isfinite(cache.spent_usd) and cache.spent_usd >= 0 <= cache.in_flight_usd
                cache.get("x")

        return Target(damaged(whole), read)


ROOT = Path(__file__).parents[2]


# --- what may come back --------------------------------------------------------------------------------------------


@contextmanager
def limited() -> Iterator[None]:
    """Ends what takes more than `LIMIT_S` of CPU."""

    def stop(number, frame):
        raise Hang(f"no result within {LIMIT_S:g} CPU seconds")

    previous = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)


def is_read(target: Target, value: Any) -> bool:
    """Returns whether a value was read, False where it was refused as it should be; anything else is raised."""
    try:
        with limited():
            target.read(value)
    except DistillError as error:
        message = str(error)
        assert message.isprintable() and 0 < len(message) <= LONGEST, f"no line for a terminal: {message!r}"
        return False
    return True


@dataclass
class Tried:
    """What a target was fed: examples, those that were read, and the first fault."""

    examples: int = 0
    read: int = 0
    fault: str = ""


def try_out(target: Target, tried: Tried, examples: int, seed: int | None = None) -> None:
    """Feeds a target; without a seed always the same.

    Raises:
        BaseException: the target's own, that of the smallest example that was found.
    """

    def feed(value: Any) -> None:
        tried.examples += 1
        tried.read += is_read(target, value)

    run = hypothesis.given(target.inputs)(feed)
    if seed is not None:
        run = hypothesis.seed(seed)(run)
    settings(
        max_examples=examples,
        derandomize=seed is None,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[*HealthCheck],
    )(run)()


def main() -> None:
    """Prints a CSV row for each target; ends with 1 where one has a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="these targets alone")
    options = parser.parse_args()
    logging.disable()  # a damaged journal is told line by line
    with tempfile.TemporaryDirectory() as place:
        targets = Readers(Path(place)).targets()
        targets = {name: targets[name] for name in options.only or targets}
        found = {name: Tried() for name in targets}
        end, turn = time.monotonic() + 60 * options.minutes, 0
        while time.monotonic() < end and not all(tried.fault for tried in found.values()):
            for name, target in targets.items():
                if not found[name].fault and time.monotonic() < end:
                    try:
                        try_out(target, found[name], 50, 1000 * options.seed + turn)
                    except BaseException as error:
                        if isinstance(error, KeyboardInterrupt):
                            raise
                        found[name].fault = f"{type(error).__name__}: {error}"[:300]
                        print(f"{name}:", ascii("".join(traceback.format_exception(error))[-3000:]), file=sys.stderr)
            turn += 1
    writer = csv.writer(sys.stdout)
    writer.writerow(["target", "examples", "read", "fault"])
    for name, tried in found.items():
        writer.writerow([name, tried.examples, tried.read, ascii(tried.fault) if tried.fault else ""])
    faults = sum(bool(tried.fault) for tried in found.values())
    print(f"{sum(tried.examples for tried in found.values())} examples, {faults} targets with a fault", file=sys.stderr)
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
