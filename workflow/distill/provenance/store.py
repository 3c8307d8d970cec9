"""A store of finished artifacts that several machines share: what one has made, another with the same key takes over.

Contents lie under their sha256, each once; the record, an in-toto statement whose subject is the artifact, under the
key that it was made for:

    sha256/AB/ABCD...        a file of an artifact, or a folder's manifest
    records/AB/ABCD....json  {"sha256": digest of key and record, "record": the statement}

A store is a help and no place to keep things: where it does not answer, is full, or holds other bytes than it should,
the stage says so in its log and makes its artifact itself.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from distill.errors import DataError, one_line
from distill.files import (
    MANIFEST,
    atomic_write,
    digest_value,
    json_text,
    load_manifest,
    read_json,
    write_text,
)
from distill.provenance.record import public, record_path

S3 = "s3://"
_BLOCK = 1 << 20


class StoreError(DataError):
    """A store does not answer, takes no more, or holds other bytes than it should."""


class Store(Protocol):
    """Where contents lie; each method raises OSError or StoreError where the store fails."""

    def open(self, name: str) -> Iterator[bytes] | None:
        """Returns what lies under a name, in blocks; None if nothing does."""

    def size(self, name: str) -> int | None:
        """Returns how many bytes lie under a name; None if nothing does."""

    def put(self, name: str, source: Path) -> None:
        """Puts a file under a name, whole or not at all."""


@dataclass(frozen=True)
class FolderStore:
    """A store in a folder, such as one on a disk that machines share."""

    folder: Path

    def open(self, name: str) -> Iterator[bytes] | None:
        """See Store."""
        try:
            file = open(self.folder / name, "rb")  # noqa: SIM115 - closed by the generator
        except FileNotFoundError:
            return None
        return _blocks(file)

    def size(self, name: str) -> int | None:
        """See Store."""
        try:
            return (self.folder / name).stat().st_size
        except FileNotFoundError:
            return None

    def put(self, name: str, source: Path) -> None:
        """See Store."""
        with atomic_write(self.folder / name) as temporary:
            shutil.copyfile(source, temporary)


def _blocks(file: Any) -> Iterator[bytes]:
    with file:
        while block := file.read(_BLOCK):
            yield block


@contextmanager
def _explained() -> Iterator[None]:
    """Turns an error of boto3 into a StoreError that names its kind alone: endpoints and headers may hold secrets."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    try:
        yield
    except ClientError as error:
        raise StoreError(f"expected an answer, found {error.response.get('Error', {}).get('Code')}") from None
    except (Boto3Error, BotoCoreError, HTTPClientError, ValueError) as error:  # ValueError: a malformed endpoint
        raise StoreError(f"expected an answer, found {type(error).__name__}") from None


class S3Store:
    """A store in a bucket; keys, region and endpoint are those of the user's AWS settings, as boto3 finds them."""

    def __init__(self, bucket: str, prefix: str):
        try:
            import boto3
            from botocore.config import Config
        except ImportError:
            raise StoreError("expected the package boto3, found none; install the lock of this environment") from None
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        config = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 3})
        with _explained():
            self._client = boto3.client("s3", config=config)

    def _place(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + name}

    def open(self, name: str) -> Iterator[bytes] | None:
        """See Store."""
        from botocore.exceptions import ClientError

        with _explained():
            try:
                body = self._client.get_object(**self._place(name))["Body"]
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchKey":
                    return None
                raise
        return self._read(body)

    @staticmethod
    def _read(body: Any) -> Iterator[bytes]:
        with _explained():
            yield from body.iter_chunks(_BLOCK)

    def size(self, name: str) -> int | None:
        """See Store."""
        from botocore.exceptions import ClientError

        with _explained():
            try:
                return int(self._client.head_object(**self._place(name))["ContentLength"])
            except ClientError as error:
                if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
                    return None
                raise

    def put(self, name: str, source: Path) -> None:
        """See Store."""
        with _explained():
            self._client.upload_file(str(source), *self._place(name).values())


def open_store(place: str) -> Store:
    """Returns the store that a folder or `s3://BUCKET/PREFIX` names."""
    if not place.startswith(S3):
        return FolderStore(Path(place))
    bucket, _, prefix = place.removeprefix(S3).partition("/")
    return S3Store(bucket, prefix.strip("/"))


def _content(digest: str) -> str:
    return f"sha256/{digest[:2]}/{digest}"


def _sealed(key: str, record: Any) -> str:
    return json_text({"sha256": digest_value([key, record]), "record": record})


@dataclass(frozen=True)
class Wanted:
    """What a stage makes, as its record must tell it. Paths are relative to the results: folders of results may have
    other names elsewhere.

    Attributes:
        artifact: where it lies.
        is_folder: whether it is a sealed folder.
        rule, code, lock, settings: as in the record; settings are the config slice.
        given: the slice's JSON as the stage was given it.
        inputs: name, path and sha256 of each input.
    """

    artifact: str
    is_folder: bool
    rule: str
    code: str
    lock: str
    settings: Any
    given: str
    inputs: list[tuple[str, str, str]]

    @property
    def key(self) -> str:
        """The digest of all that decides what the artifact and its record say."""
        parts = [self.artifact, self.is_folder, self.rule, self.code, self.lock, self.given, self.inputs]
        return digest_value(parts)

    def is_told_by(self, record: dict[str, Any]) -> bool:
        """Returns whether a record is that of this artifact."""
        build = record["predicate"]["buildDefinition"]
        inner = build["internalParameters"]
        return (
            len(record["subject"]) == 1
            and re.fullmatch("[0-9a-f]{64}", record["subject"][0]["digest"]["sha256"]) is not None
            and record["subject"][0]["name"] == Path(self.artifact).name
            and build["externalParameters"] == {"rule": self.rule, "settings": public(self.settings)}
            and (inner["code"], inner["lock"]) == (self.code, self.lock)
            and [(entry["name"], entry["digest"]["sha256"]) for entry in build["resolvedDependencies"]]
            == [(name, digest) for name, _, digest in self.inputs]
        )


class Shared:
    """A store as one stage uses it: nothing here raises what a store may do wrong.

    Args:
        place: a folder or `s3://BUCKET/PREFIX`; empty for none.
        wanted: what the stage makes.
    """

    def __init__(self, place: str, wanted: Wanted):
        self._place, self._wanted = place, wanted
        self._damaged: set[str] = set()

    @property
    def _record(self) -> str:
        key = self._wanted.key
        return f"records/{key[:2]}/{key}.json"

    @contextmanager
    def _warned(self, then: str) -> Iterator[None]:
        try:
            yield
        except (OSError, DataError) as error:
            # The file system's own words: our advice on a full disk is for the results.
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            print(f"warning: store {self._place}: {one_line(str(cause))}; {then}", file=sys.stderr, flush=True)

    def _refuse(self, name: str, expected: str, found: str) -> StoreError:
        self._damaged.add(name)
        return StoreError(f"{name}: expected {expected}, found {found}")

    def _take(self, store: Store, digest: str, target: Path, size: int | None = None) -> None:
        """Brings a content to a new file; one of another size or digest is refused by its name."""
        name = _content(digest)
        blocks = store.open(name)
        if blocks is None:
            raise self._refuse(name, "a file", "none")
        found, count = hashlib.sha256(), 0
        with open(target, "wb") as file:
            for block in blocks:
                found.update(block)
                count += len(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        if found.hexdigest() != digest:
            raise self._refuse(name, f"sha256 {digest}", f"{found.hexdigest()} ({count} bytes)")
        if size not in (None, count):
            raise self._refuse(name, f"{size} bytes", f"{count}")

    def _read_record(self, store: Store) -> dict[str, Any] | None:
        blocks = store.open(self._record)
        if blocks is None:
            return None
        text = b"".join(blocks)
        try:
            found = json.loads(text)
            record, claimed = found["record"], str(found["sha256"])
            actual = digest_value([self._wanted.key, record])
            if claimed != actual or _sealed(self._wanted.key, record).encode() != text:
                raise self._refuse(self._record, f"a record with sha256 {one_line(claimed)[:64]}", actual)
            if not self._wanted.is_told_by(record):
                raise self._refuse(self._record, "the record of this key", "that of another")
        except (ValueError, KeyError, TypeError, RecursionError, IndexError):
            raise self._refuse(
                self._record, "a sealed record", f"other bytes (sha256 {hashlib.sha256(text).hexdigest()})"
            ) from None
        return record

    def fetch(self, temporary: Path) -> dict[str, Any] | None:
        """Brings the artifact to a temporary place, checked, and returns its record; None where it must be made.

        Args:
            temporary: where nothing lies, and where nothing is left unless the artifact is there whole.
        """
        if not self._place:
            return None
        with self._warned("the stage makes its artifact itself"):
            store = open_store(self._place)
            record = self._read_record(store)
            if record is None:
                return None
            try:
                self._bring(store, record["subject"][0]["digest"]["sha256"], temporary)
            except BaseException:
                if temporary.is_dir():
                    shutil.rmtree(temporary)
                else:
                    temporary.unlink(missing_ok=True)
                raise
            print(f"fetched from the store, not made: key {self._wanted.key}", flush=True)
            return record
        return None

    def _bring(self, store: Store, subject: str, temporary: Path) -> None:
        if not self._wanted.is_folder:
            self._take(store, subject, temporary)
            return
        temporary.mkdir()
        self._take(store, subject, temporary / MANIFEST)
        for name, entry in load_manifest(temporary / MANIFEST).items():
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            self._take(store, entry["sha256"], target, entry["size"])

    def push(self, final: Path, temporary: Path) -> None:
        """Puts a finished artifact and its record into the store; contents first, so that a record has all of them.

        Args:
            final: the artifact, published and recorded.
            temporary: a name for a file that is removed again.
        """
        if not self._place:
            return
        with self._warned("the stage is done; the store goes without its artifact"):
            store, record = open_store(self._place), read_json(record_path(final))
            for digest, path in self._contents(final, record["subject"][0]["digest"]["sha256"]):
                name = _content(digest)
                if name in self._damaged or store.size(name) != path.stat().st_size:
                    store.put(name, path)
            if self._damaged or store.size(self._record) is None:
                try:
                    write_text(temporary, _sealed(self._wanted.key, record))
                    store.put(self._record, temporary)
                finally:
                    temporary.unlink(missing_ok=True)

    def _contents(self, final: Path, subject: str) -> Iterable[tuple[str, Path]]:
        if not self._wanted.is_folder:
            return [(subject, final)]
        entries = load_manifest(final / MANIFEST).items()
        return [*((entry["sha256"], final / name) for name, entry in entries), (subject, final / MANIFEST)]
