"""A shared store: one makes, another takes over, checked; nothing that is wrong with the store harms a stage."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from distill.config.base import Section
from distill.errors import ConfigError
from distill.files import digest_file, read_json, read_manifest, seal_folder
from distill.provenance.record import record_path
from distill.provenance.stage import run_stage
from distill.study.places import check_store


class Settings(Section):
    """Slice of the test's stage."""

    number: int = 1


SERVER = """
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
input()
"""


@pytest.fixture(autouse=True)
def script_name(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["workflow/scripts/make_thing.py", "--seen"])


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path, monkeypatch):
    """A store in a folder, and one on moto's server."""
    if request.param == "folder":
        yield str(tmp_path / "store")
        return
    # In a process of its own: what the server imports looks at every object that vLLM's start looks at in later tests.
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    address = f"http://127.0.0.1:{int(server.stdout.readline())}"
    variables = {"AWS_ENDPOINT_URL_S3": address, "AWS_DEFAULT_REGION": "us-east-1"}
    variables |= {"AWS_ACCESS_KEY_ID": "canary-id", "AWS_SECRET_ACCESS_KEY": "canary-secret", "NO_PROXY": "127.0.0.1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="shared")
    yield "s3://shared/some/prefix"
    server.communicate("")


def make(clone: Path, store: str, made: list, *more: str, folder: bool = True, rows: str = "row\n") -> Path:
    """Runs the stage in a clone of the study; returns its artifact."""
    source = clone / "results" / "source"
    if not source.exists():
        source.mkdir(parents=True)
        (source / "rows.jsonl").write_text(rows)
        seal_folder(source)

    def work(job):
        made.append(clone.name)
        (job.output / "one.txt" if folder else job.output).write_text("made\n")
        if folder:
            (job.output / "below").mkdir()
            (job.output / "below" / "two.txt").write_text("made\n")

    artifact = clone / "results" / ("thing" if folder else "page.md")
    arguments = ["--source", str(source / "COMPLETE"), "--output", str(artifact / "COMPLETE" if folder else artifact)]
    arguments += ["--state", str(clone / "results" / ".state"), "--store", store, *more]
    run_stage(work, "A stage.", inputs=("source",), settings=Settings, arguments=arguments)
    return artifact


def contents(store: Path) -> list[Path]:
    return sorted(path for path in (store / "sha256").rglob("*") if path.is_file())


@pytest.mark.parametrize("folder", [True, False], ids=["sealed folder", "file"])
def test_a_second_clone_takes_over_what_the_first_has_made(tmp_path, store, folder, capfd):
    made: list[str] = []
    one, two = (make(tmp_path / name, store, made, folder=folder) for name in ("one", "two"))
    assert made == ["one"]
    assert record_path(one).read_bytes() == record_path(two).read_bytes()  # the maker's
    if folder:
        assert read_manifest(two) == read_manifest(one)
        assert [digest_file(two / name) for name in read_manifest(one)] == [digest_file(one / "one.txt")] * 2
        (two / "COMPLETE").unlink()  # as Snakemake does before each try
        make(tmp_path / "two", store, made)
        assert made == ["one"]
    else:
        assert two.read_bytes() == one.read_bytes()
    out, err = capfd.readouterr()
    assert "fetched from the store" in out and "warning: store" not in err
    texts = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any("canary" in text for text in (*texts, out, err))


@pytest.mark.parametrize(
    "more", [("--settings", '{"number": 2}'), ("--code", "c0de"), ("--lock", "10c4")], ids=lambda more: more[0]
)
def test_another_key_is_another_artifact(tmp_path, more):
    made, store = [], str(tmp_path / "store")
    make(tmp_path / "one", store, made)
    make(tmp_path / "two", store, made, *more)
    make(tmp_path / "three", store, made, rows="another row\n")
    assert made == ["one", "two", "three"]


def test_each_content_lies_once_and_a_record_names_no_store(tmp_path):
    store = tmp_path / "store"
    artifact = make(tmp_path / "one", str(store), [])
    assert [path.name for path in contents(store)] == sorted(
        [digest_file(artifact / "one.txt"), digest_file(artifact / "COMPLETE")]
    )
    assert all(path.name == digest_file(path) for path in contents(store))
    (record,) = (store / "records").rglob("*.json")
    assert read_json(record)["record"] == read_json(record_path(artifact))
    assert "store" not in record.read_text()


def test_one_flipped_byte_is_refused_by_name_and_the_stage_makes_its_artifact_and_mends_the_store(tmp_path, capfd):
    store, made = tmp_path / "store", []
    make(tmp_path / "one", str(store), made)
    for number, path in enumerate([*contents(store), *(store / "records").rglob("*.json")]):
        whole = path.read_bytes()
        path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
        found = digest_file(path)
        two = make(tmp_path / f"two{number}", str(store), made)
        (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning: store")]
        assert f"{path.relative_to(store)}: expected " in line and "makes its artifact itself" in line
        if path.parts[-3] == "sha256":
            assert path.name in line.split("expected")[1] and found in line
        assert made[-1] == f"two{number}" and read_manifest(two)
        assert not list(two.parent.glob("*.tmp-*"))
        make(tmp_path / f"three{number}", str(store), made)
        assert made[-1] == f"two{number}"  # mended


def test_a_lost_content_is_refused_by_name(tmp_path, capfd):
    store, made = tmp_path / "store", []
    make(tmp_path / "one", str(store), made)
    lost = contents(store)[0]
    lost.unlink()
    make(tmp_path / "two", str(store), made)
    assert made == ["one", "two"] and lost.is_file()
    assert f"{lost.relative_to(store)}: expected a file, found none" in capfd.readouterr().err


def test_a_store_that_cannot_be_used_costs_no_work(tmp_path, capfd, monkeypatch):
    # Without boto3 the bucket fails as well, by its own line.
    (tmp_path / "taken").write_text("a file")
    for name, value in {"AWS_ACCESS_KEY_ID": "canary-id", "AWS_SECRET_ACCESS_KEY": "canary-secret"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://user:canary@127.0.0.1:9")  # nobody listens
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    made: list[str] = []
    for clone, store in (("one", str(tmp_path / "taken")), ("two", "s3://shared/prefix")):
        assert read_manifest(make(tmp_path / clone, store, made))
        err = capfd.readouterr().err
        assert "the stage is done; the store goes without its artifact" in err and "canary" not in err
    assert made == ["one", "two"]


def test_a_full_store_costs_no_work_and_keeps_nothing_half(tmp_path, capfd, monkeypatch):
    def full(source, target):
        Path(target).write_text("ha")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("distill.provenance.store.shutil.copyfile", full)
        made: list[str] = []
        assert read_manifest(make(tmp_path / "one", str(tmp_path / "store"), made))
    assert "No space left on device; the stage is done" in capfd.readouterr().err
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def test_two_that_push_at_once_leave_a_store_that_a_third_can_use(tmp_path):
    from distill.provenance.store import Shared, Wanted

    first = make(tmp_path / "one", "", [])
    second = shutil.copytree(first, tmp_path / "copy" / "thing")
    shutil.copy(record_path(first), record_path(second))
    build = read_json(record_path(first))["predicate"]["buildDefinition"]
    source = [("source", "source", build["resolvedDependencies"][0]["digest"]["sha256"])]
    wanted = Wanted("thing", True, "make_thing", "unknown", "unknown", {"number": 1}, "{}", source)
    store, made = str(tmp_path / "store"), []
    with ThreadPoolExecutor(2) as pool:
        for number in range(10):
            shutil.rmtree(store, ignore_errors=True)
            artifacts = (first, second)
            pushes = [pool.submit(Shared(store, wanted).push, each, each.with_name("tmp")) for each in artifacts]
            assert [push.result() for push in pushes] == [None, None]
            make(tmp_path / f"third{number}", store, made)
    assert made == []


@pytest.mark.parametrize(
    "place", ["", "s3://", "s3://id:secret@bucket/prefix", "https://host/bucket", "s3://bucket/x?key=secret"]
)
def test_a_store_of_another_form_is_refused_without_being_repeated(tmp_path, place):
    with pytest.raises(ConfigError, match="^store: expected ") as error:
        check_store(place, tmp_path)
    assert "secret" not in str(error.value)


def test_a_store_lies_outside_of_the_results(tmp_path):
    with pytest.raises(ConfigError, match="outside of the results"):
        check_store(str(tmp_path / "results" / "store"), tmp_path / "results")
    check_store("s3://bucket/prefix", tmp_path)
