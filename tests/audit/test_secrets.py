"""What a run is given in its environment to identify itself is in no file that it leaves."""

import base64
import gzip
import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_openai import FakeOpenAI

# Put together here, so that the repository that runs does not hold them.
KEY, TOKEN = "-".join(("sk", "of", "this", "run", "0123456789")), "_".join(("hf", "token", "of", "this", "run"))
_ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")


def contents(data: bytes, depth: int = 3) -> Iterator[bytes]:
    """Yields bytes and all that is packed in them: gzip, zip and tar files, and zlib streams as in PNG, PDF and git."""
    yield data
    if not depth:
        return
    packed = []
    if data[:2] == b"\x1f\x8b":
        packed.append(gzip.decompress(data))
    elif zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            packed += [archive.read(name) for name in archive.namelist()]
    elif len(data) > 262 and data[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            packed += [archive.extractfile(member).read() for member in archive if member.isfile()]
    else:
        for match in _ZLIB.finditer(data):
            stream = zlib.decompressobj()
            try:
                packed.append(stream.decompress(data[match.start() :]))
            except zlib.error:
                continue
    for part in packed:
        yield from contents(part, depth - 1)


def forms(secret: str) -> list[bytes]:
    """Returns a secret as it may stand in a file: as it is, in hexadecimal digits, and in base64 at any offset."""
    encoded = [base64.b64encode(b"x" * shift + secret.encode())[4 * (shift > 0) :] for shift in range(3)]
    return [secret.encode(), secret.encode().hex().encode(), *(text.rstrip(b"=")[:-2] for text in encoded)]


def files_with(folder: Path, *secrets: str) -> list[Path]:
    """Returns the files below a folder that hold a secret, packed or not."""
    wanted = [form for secret in secrets for form in forms(secret)]
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in files if any(form in part for part in contents(path.read_bytes()) for form in wanted)]


def test_a_run_leaves_the_keys_of_its_environment_in_no_file(workplace):
    with FakeOpenAI("A", key=KEY) as server:
        section = {"base_url": server.base_url, "pairs": [["bd_sampled", "phase1"]], "prompts": 4, "kind": "auto"}
        workplace.configure({"judge": section})
        result = workplace.snakemake(OPENAI_API_KEY=KEY, HF_TOKEN=TOKEN)
    assert result.returncode == 0, result.stdout[-4000:]
    assert len(server.requests) == 8
    assert KEY not in result.stdout and TOKEN not in result.stdout
    # The page and the records name the judge, the state keeps its verdicts: places where a key could slip in.
    assert "gpt-4o-mini" in (workplace.results / "verdicts/bd_sampled-phase1.prov.json").read_text()
    assert files_with(workplace.folder, KEY, TOKEN) == []


def _tar(data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        member = tarfile.TarInfo("inner")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def _zip(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner", data)
    return file.getvalue()


@pytest.mark.parametrize(
    "pack",
    [
        bytes,
        bytes.hex,
        base64.b64encode,
        lambda data: base64.b64encode(b"1" + data),
        gzip.compress,
        lambda data: b"%PDF stream\n" + zlib.compress(data) + b"\nendstream",
        _zip,
        _tar,
        lambda data: _zip(gzip.compress(base64.b64encode(b"12" + data))),
    ],
)
def test_the_search_finds_a_key_however_it_is_packed(tmp_path, pack):
    packed = pack(b"Authorization: Bearer " + KEY.encode() + b" and more text around it")
    (tmp_path / "file").write_bytes(packed if isinstance(packed, bytes) else packed.encode())
    (tmp_path / "other").write_bytes(gzip.compress(b"nothing"))
    assert files_with(tmp_path, KEY) == [tmp_path / "file"]
