"""Every change of a byte, a record or the config is found and named; what was not touched is never accused."""

import random
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.__main__ import main
from distill.audit.archive import Archive
from distill.audit.manifest import manifest_of, write_manifest
from distill.audit.verify import Finding, verify
from distill.errors import ConfigError, DataError
from distill.files import ROOT_MANIFEST, digest_file, json_text, read_json, seal_folder, write_json
from distill.provenance.record import RECORD
from distill.study.load import load_study
from distill.study.study import Study
from small_archive import make_small_archive, small_config
from workplace import ROOT, copy_tree

CONFIG = small_config()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Study]:
    """The small results and their study; a test that changes them puts them back or takes `results`."""
    folder = tmp_path_factory.mktemp("made") / "results"
    return folder, make_small_archive(folder, CONFIG)


@pytest.fixture
def results(made, tmp_path) -> Path:
    return copy_tree(made[0], tmp_path / "results")


@pytest.fixture
def study(made) -> Study:
    return made[1]


def find(results: Path, study: Study | None, *paths: str, **options: Any) -> list[Finding]:
    return verify(Archive(results, ROOT), study, paths, **options).findings


def paths_of(findings: list[Finding]) -> set[str]:
    return {finding.path for finding in findings}


# Each mutation returns the relative paths that it changed and what to write back, None for a file to remove.
Before = dict[str, bytes | None]


def _choose(results: Path, draw: random.Random) -> str:
    """Returns any file that is not empty; all are there again before each mutation."""
    return draw.choice([name for name in _files(results) if (results / name).stat().st_size])


@cache
def _files(results: Path) -> list[str]:
    return [*Archive(results, ROOT).files(), ROOT_MANIFEST]


def _write(results: Path, contents: Before) -> Before:
    before = {name: (results / name).read_bytes() if (results / name).is_file() else None for name in contents}
    for name, content in contents.items():
        (results / name).unlink(missing_ok=True)
        if content is not None:
            (results / name).write_bytes(content)
    return before


def flip(results: Path, draw: random.Random) -> Before:
    name = _choose(results, draw)
    content = bytearray((results / name).read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return _write(results, {name: bytes(content)})


def remove(results: Path, draw: random.Random) -> Before:
    return _write(results, {_choose(results, draw): None})


def add(results: Path, draw: random.Random) -> Before:
    folder = Path(_choose(results, draw)).parent
    content = draw.choice([b"", draw.randbytes(9), (results / _choose(results, draw)).read_bytes()])
    return _write(results, {str(folder / f"extra{draw.choice(['', '.jsonl', RECORD])}"): content})


def swap(results: Path, draw: random.Random) -> Before:
    one, content = ROOT_MANIFEST, b""
    while one == ROOT_MANIFEST:
        one = _choose(results, draw)
        content = (results / one).read_bytes()
    other = one
    while other == ROOT_MANIFEST or (results / other).read_bytes() == content:
        other = _choose(results, draw)
    return _write(results, {one: (results / other).read_bytes(), other: content})


def truncate(results: Path, draw: random.Random) -> Before:
    name = _choose(results, draw)
    content = (results / name).read_bytes()
    return _write(results, {name: content[: draw.randrange(len(content))]})


def _leaves(value: Any, place: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(part, (*place, key))
    else:
        yield place, value


def _changed(value: Any, draw: random.Random) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return value + (draw.choice([1, 2, 16]) if isinstance(value, int) else 0.125)
    index = draw.randrange(len(value) + 1)
    return value[:index] + ("0" if value[index : index + 1] != "0" else "1") + value[index + 1 :]


def _set(tree: Any, place: tuple, value: Any) -> None:
    for key in place[:-1]:
        tree = tree[key]
    tree[place[-1]] = value


def edit_record(results: Path, draw: random.Random) -> Before:
    name = draw.choice([name for name in _files(results) if name.endswith(RECORD)])
    statement = read_json(results / name)
    place, value = draw.choice(list(_leaves(statement)))
    _set(statement, place, _changed(value, draw))
    return _write(results, {name: json_text(statement).encode()})


MUTATIONS: tuple[Callable[[Path, random.Random], Before], ...] = (flip, remove, add, swap, truncate, edit_record)


def check_bytes(mutate: Callable, results: Path, study: Study | None, draw: random.Random) -> None:
    """Changes results, expects exactly the changed paths to be named, and puts all back."""
    before = mutate(results, draw)
    try:
        findings = find(results, study)
        if ROOT_MANIFEST in before:  # an entry of it that is wrong is told beside the file
            assert any(ROOT_MANIFEST in (finding.path + finding.message) for finding in findings), before.keys()
        else:
            assert paths_of(findings) == set(before), (mutate.__name__, findings)
    finally:
        _write(results, before)


def check_config(results: Path, config: dict, draw: random.Random, known: Collection[tuple[str, str]] = ()) -> None:
    """Changes one number of the config, expects what was made with it to be named, with the key.

    Known are path and message of what is found before it.
    """
    numbers = [(place, value) for place, value in _leaves(config) if type(value) in (int, float)]
    while True:
        changed = yaml.safe_load(yaml.safe_dump(config))
        place, value = draw.choice(numbers)
        _set(changed, place, _changed(value, draw))
        try:
            study = load_study(changed)
        except ConfigError:
            continue
        break
    findings = [finding for finding in find(results, study) if (finding.path, finding.message) not in known]
    assert {finding.kind for finding in findings} == {"stale"}, place
    assert any(str(place[-1]) in finding.message for finding in findings), (place, findings)
    # The page holds the whole config; what a key is for must be named besides.
    assert paths_of(findings) >= {"report.html"} and len(paths_of(findings)) > 1, (place, findings)


# Three hundred of them every day.
@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 10))])
def test_a_thousand_mutations_are_each_found_where_they_are(made, seed):
    results, study = made
    draw = random.Random(seed)
    for number in range(100):
        if number % 7 == 6:
            check_config(results, CONFIG, draw)
        else:
            check_bytes(MUTATIONS[number % 7], results, study if number % 5 == 0 else None, draw)
    assert find(results, study) == []


@pytest.mark.slow
def test_forty_mutations_of_the_embedded_study(tmp_path):
    if not (ROOT / "results" / ROOT_MANIFEST).is_file():
        pytest.skip("needs the results of the embedded study: make tables")
    results, draw = Path(shutil.copytree(ROOT / "results", tmp_path / "results")), random.Random(40)
    assert find(results, None) == []
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    known = {(finding.path, finding.message) for finding in find(results, load_study(config))}
    for number in range(40):
        if number % 7 == 6:
            check_config(results, config, draw, known)
        else:
            check_bytes(MUTATIONS[number % 7], results, None, draw)
    assert find(results, None) == []


def test_results_moved_to_another_folder_are_the_same_results(results, study, tmp_path):
    digest = digest_file(results / ROOT_MANIFEST)
    moved = tmp_path / "somewhere else" / "mine"
    moved.parent.mkdir()
    results.rename(moved)
    assert find(moved, study, expect=digest) == [] and write_manifest(moved) == digest


def test_a_touched_file_unfinished_work_and_curves_are_no_findings(results, study):
    (results / "tables.md").touch()
    (results / "curves" / "bd").mkdir(parents=True)
    (results / "curves" / "bd" / "events").write_text("other values")
    (results / ".state" / "unfinished" / "step.json").write_text("another")
    assert find(results, study) == []


def test_what_another_run_is_about_to_publish_or_takes_away_meanwhile_is_no_part_of_the_manifest(results, study):
    digest = digest_file(results / ROOT_MANIFEST)
    for name in ("models/teacher.tmp-7-0a/model.safetensors", "logs/gone.log"):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text("x")
    archive = Archive(results, ROOT)
    (results / "logs/gone.log").unlink()
    assert manifest_of(archive) == read_json(results / ROOT_MANIFEST)
    shutil.rmtree(results / "models/teacher.tmp-7-0a")
    assert verify(archive, study, ()).findings == [] and write_manifest(results) == digest


def test_a_path_is_checked_with_all_that_it_was_made_from_and_no_more(results, study):
    for name in ("data/split/rows.jsonl", "training/bd_sampled/rows.jsonl", "logs/make_tables/tables.log"):
        (results / name).write_bytes(b"x")
    behind, own = {"data/split/rows.jsonl"}, "training/bd_sampled/rows.jsonl"
    assert paths_of(find(results, study, "models/sft")) == behind
    assert paths_of(find(results, study, str(results / "scores/sft/rows.jsonl"))) == behind
    assert paths_of(find(results, study, "verdicts")) == {*behind, own}
    assert paths_of(find(results, study, "tables.md.prov.json")) == {*behind, own}
    assert find(results, study, "data/sources", "bases/student") == []
    assert paths_of(find(results, study, "logs/make_tables")) == {"logs/make_tables/tables.log"}
    with pytest.raises(DataError, match="^models/none: expected a file, folder or artifact of .*, found none$"):
        find(results, study, "models/none")
    with pytest.raises(DataError, match="expected a path below"):
        find(results, study, "../elsewhere")


def test_a_file_gone_is_named_by_its_path(results, study):
    (results / "models/sft/rows.jsonl").unlink()
    assert paths_of(find(results, study, "models/sft/rows.jsonl")) == {"models/sft/rows.jsonl"}
    shutil.rmtree(results / "models/sft")
    assert {"models/sft/COMPLETE", "models/sft/rows.jsonl"} <= paths_of(find(results, study, "models/sft"))


def rewrite(results: Path, name: str) -> None:
    """Changes a file of a sealed folder and seals the folder again."""
    (results / name / "rows.jsonl").write_bytes(b"better numbers")
    seal_folder(results / name)


def test_a_folder_sealed_anew_does_not_fit_its_record(results, study):
    rewrite(results, "scores/sft")
    assert paths_of(find(results, study)) == {"scores/sft/COMPLETE", "scores/sft/rows.jsonl"}
    write_manifest(results)
    (finding,) = find(results, study, "scores/sft")
    assert finding.path == "scores/sft.prov.json" and "to agree" in finding.message


def test_a_record_rewritten_with_it_does_not_fit_what_was_made_from_it(results, study):
    old = digest_file(results / ROOT_MANIFEST)
    rewrite(results, "scores/sft")
    record = read_json(results / "scores/sft.prov.json")
    record["subject"][0]["digest"]["sha256"] = digest_file(results / "scores/sft/COMPLETE")
    write_json(results / "scores/sft.prov.json", record)
    new = write_manifest(results)
    assert find(results, study, "scores/sft") == []
    (finding,) = find(results, study)
    assert (finding.path, finding.kind) == ("tables", "stale") and "the input scores/sft" in finding.message
    # Whoever rewrites all that follows as well is found by a digest kept elsewhere.
    (finding,) = find(results, None, "scores/sft", expect=old)
    assert finding.path == ROOT_MANIFEST and old in finding.message and new in finding.message


def test_an_input_without_a_record_breaks_the_chain(results, study):
    (results / "models/sft.prov.json").unlink()
    write_manifest(results)
    findings = find(results, study)
    assert {"models/sft", "models/sft/COMPLETE"} <= paths_of(findings)
    assert {finding.kind for finding in findings} == {"unexplained"}


def test_a_file_of_no_rule_is_found_though_the_manifest_lists_it(results, study):
    (results / "tables_of_mine.md").write_text("x")
    write_manifest(results)
    (finding,) = find(results, study)
    assert (finding.path, finding.kind) == ("tables_of_mine.md", "unexplained")


def test_without_the_root_manifest_seals_and_records_still_hold(results, study):
    (results / ROOT_MANIFEST).unlink()
    assert paths_of(find(results, study)) == {ROOT_MANIFEST}
    (results / "samples/rows.jsonl").write_bytes(b"x")
    (results / "tables.md").write_bytes(b"x")
    (results / "candidates/0/more").write_bytes(b"x")
    expected = {ROOT_MANIFEST, "samples/rows.jsonl", "tables.md", "candidates/0/more"}
    assert paths_of(find(results, study)) == expected


@pytest.mark.parametrize("text", ["", "[]", '{"tables.md": {}}', '{"tables.md": {"size": "1", "sha256": ""}}'])
def test_a_root_manifest_that_is_none_is_named(results, study, text):
    (results / ROOT_MANIFEST).write_text(text)
    (finding,) = find(results, study)
    assert (finding.path, finding.kind) == (ROOT_MANIFEST, "manifest")


def test_the_kind_says_what_was_done(results, study):
    first, second = "scores/sft/rows.jsonl", "scores/phase1/rows.jsonl"
    contents = [(results / name).read_bytes() for name in (first, second)]
    (results / first).write_bytes(contents[1])
    (results / second).write_bytes(contents[0][:5])
    (results / "scores/sft/more").write_bytes(b"x")
    (results / "samples.prov.json").write_text("{")
    (results / "report.html").unlink()
    kinds = {finding.path: finding.kind for finding in find(results, study)}
    assert kinds == {
        first: "swapped",
        second: "truncated",
        "scores/sft/more": "added",
        "samples.prov.json": "truncated",
        "report.html": "missing",
    }


@pytest.fixture
def repository(tmp_path) -> Path:
    """A copy of the code and locks that records speak of."""
    for name in ("workflow", "envs"):
        shutil.copytree(ROOT / name, tmp_path / "repository" / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "repository"


def stale(made: tuple[Path, Study], repository: Path) -> dict[str, str]:
    """Returns {artifact: first message} of what is stale beside a repository."""
    findings = verify(Archive(made[0], repository), made[1]).findings
    assert {finding.kind for finding in findings} <= {"stale"}
    return {finding.path: finding.message for finding in reversed(findings)}


@pytest.mark.parametrize(
    ("name", "added", "expected"),
    [
        ("methods/bd/objective.py", "# A comment.", set()),
        ("methods/bd/objective.py", "NUMBER = 1", {"training/bd_sampled"}),
        ("evaluation/dev_scores.py", "NUMBER = 1", {"models/sft", "models/bd_sampled"}),
    ],
)
def test_an_edit_of_code_is_named_at_all_that_it_made(made, repository, name, added, expected):
    path = repository / "workflow/distill" / name
    path.write_text(f"{path.read_text()}\n{added}\n")
    found = stale(made, repository)
    assert set(found) == expected
    pattern = r"expected code '\w{16}' as recorded, found '\w{16}' in the repository; "
    assert all(re.match(pattern, message) for message in found.values())


def test_another_lock_is_named_at_all_that_was_made_under_it(made, repository):
    lock = repository / "envs/cpu.lock"
    lock.write_text(lock.read_text() + "\n")
    found = stale(made, repository)
    assert set(found) == set(Archive(made[0], ROOT).artifacts)
    assert {message.split()[1] for message in found.values()} == {"lock"}


def test_a_folder_that_is_no_repository_is_wrong_use(made, tmp_path):
    with pytest.raises(DataError, match=r"expected a file of the repository, found No such file .*; run this from"):
        verify(Archive(made[0], tmp_path), made[1])


def test_what_the_config_no_longer_asks_for_is_named(made):
    runs = {name: run for name, run in CONFIG["runs"].items() if name != "sft"}
    findings = find(made[0], load_study(CONFIG | {"runs": runs}))
    gone = {finding.path for finding in findings if "found none that makes it" in finding.message}
    kinds = ("training", "validation", "models", "generations", "scores")
    assert gone == {*(f"{kind}/sft" for kind in kinds), "verdicts/bd_sampled-sft"}


def test_a_model_now_supplied_from_outside_is_not_the_one_trained_here(made):
    findings = find(made[0], load_study(CONFIG | {"external": {"phase1": "elsewhere"}}), "models/phase1")
    assert ("models/phase1", "expected rule 'select_checkpoint'") in {
        (finding.path, finding.message.split(" as ")[0]) for finding in findings
    }


def test_a_key_for_the_judge_where_the_audit_is_done_changes_nothing(made, monkeypatch):
    auto = load_study(CONFIG | {"judge": {"kind": "auto"}})
    for key in ("", "sk-of-the-auditor"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        assert paths_of(find(made[0], auto)) == {"report.html"}  # it shows the config's own word


@pytest.fixture
def command(results, tmp_path, monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Runs the command line in the repository on the small results; returns its exit code and output."""
    config = tmp_path / "small.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    monkeypatch.chdir(ROOT)

    def run(*arguments: str) -> tuple[int, str]:
        code = main([*arguments, "--results", str(results)])
        output = capsys.readouterr()
        return code, (output.out + output.err).strip()

    run.config = config
    return run


def test_the_command_line_tells_findings_by_line_and_exit_code(command, results):
    config, digest = ("--configfile", str(command.config)), digest_file(results / ROOT_MANIFEST)
    code, output = command("verify", *config, "--expect", f"sha256:{digest.upper()}")
    assert code == 0 and re.fullmatch(
        rf"{re.escape(str(results))}: \d+ artifacts in \d+ files, 0\.\d MB read at \d+ MB/s; "
        f"sha256:{digest}; no findings",
        output,
    )
    (results / "tables.md").write_bytes(b"x")
    code, output = command("verify", *config)
    lines = output.splitlines()
    assert code == 1 and lines[0].startswith(f"{results}/tables.md: truncated: expected sha256 ")
    assert len(lines) == 2 and lines[1].endswith("; 1 finding")
    assert command("verify", *config, "bases/teacher")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--expect", "abc"], "error: --expect: expected 64 hexadecimal digits, found others; "),
        (["--configfile", "none.yaml"], "error: none.yaml: expected a config, found none; "),
        (["models/none"], "error: models/none: expected a file, folder or artifact of "),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(command, arguments, message):
    code, output = command("verify", *arguments)
    assert code == 2 and output.startswith(message) and len(output.splitlines()) == 1


def test_a_config_that_is_none_is_a_finding_and_bytes_are_checked_all_the_same(command, results):
    command.config.write_text("judg: {}")
    (results / "tables.md").write_bytes(b"x")
    code, output = command("verify", "--configfile", str(command.config))
    assert code == 1 and output.startswith(f"{command.config}: config: judg: unknown key; ")
    assert f"{results}/tables.md: truncated" in output and output.endswith("; 2 findings")


def test_the_manifest_is_written_once(command, results):
    path = results / ROOT_MANIFEST
    before, line = path.stat().st_mtime_ns, f"{path}: sha256:{digest_file(path)}"
    assert command("manifest") == (0, line) and path.stat().st_mtime_ns == before
    (results / "logs/more.log").write_text("more")
    assert command("manifest") != (0, line) and "logs/more.log" in read_json(path)
