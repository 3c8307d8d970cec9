"""The scripts from generations to the page, as subprocesses on a small made-up results tree."""

import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from distill.files import read_json, read_jsonl, seal_folder, write_json, write_jsonl
from distill.provenance.record import record_path
from distill.records import Example, Generation
from distill.report.csv_tables import COLUMNS, read_table
from fake_openai import KEY, FakeOpenAI
from warm import ENVIRONMENT, warm_python

WORKFLOW = Path(__file__).parents[2] / "workflow"
SYSTEMS = ["teacher", "phase1", "bd"]
DATASETS = ["dolly", "self_inst"]
METRICS = dict.fromkeys(DATASETS, "rouge_l")
CANDIDATES = ["candidates/0", "candidates/1"]
DECODINGS = {"sampled": {}, "greedy": {"temperature": 0}}
EXAMPLES = {
    dataset: [
        Example.of(f"Name thing {i} of {dataset}.", "", [f"thing number {i}", f"number {i}"], "qa") for i in range(8)
    ]
    for dataset in DATASETS
}


def folder(path, **files):
    """Makes a sealed folder of JSON and JSONL files."""
    path.mkdir(parents=True)
    for name, content in files.items():
        if isinstance(content, dict):
            write_json(path / f"{name}.json", content)
        else:
            write_jsonl(path / f"{name}.jsonl", content)
    seal_folder(path)


def generations(system):
    """The teacher is always right, bd on every prompt but one, phase1 on every second prompt."""
    for dataset, examples in EXAMPLES.items():
        for decoding, seeds in (("sampled", (10, 20)), ("greedy", (10,))):
            for seed in seeds:
                for i, example in enumerate(examples):
                    right = {"teacher": True, "bd": i != seed // 10, "phase1": i % 2 == 0}[system]
                    text = f"thing number {i}" if right else "no idea at all"
                    yield asdict(Generation(example.id, dataset, seed, decoding, example.instruction, text, 4, right))


def run_folder(path, name, bellman):
    updates = range(1, 5)
    items = [
        {
            "step": step,
            "id": f"p{i}",
            "sample": k,
            "loss": 2.0 - step / 10 + i / 100 + k / 50,
            "linear": 1.0 - step / 10,
        }
        for step in (0, 2, 4)
        for i in range(5)
        for k in range(2)
    ]
    times = {"tokens": 500, "seconds": 0.5}
    folder(
        path / "training" / name,
        metrics=[{"step": step, "loss": 1.0, "gradient_norm": 0.5, **times} for step in updates],
        dev=[{"step": step, "loss": 3.0 - step / 4} for step in (0, 2, 4)],
        dev_items=items if bellman else [],
        data_seen={"updates": 4, "sequences": 64, "prompts": 40, "responses": 40}
        | {"prompts_sha256": "ab" * 32, "labelled_rows": 0 if bellman else 40},
    )
    scores = {
        str(step): {"dev_loss": 3.0 - step / 4} | ({"dev_rouge_l": 50.0 - step} if bellman else {}) for step in (2, 4)
    }
    selection = {"run": name, "rule": "dev_rouge_l" if bellman else "dev_loss", "split": "dev"}
    folder(path / "models" / name, selection=selection | {"update": 2 if bellman else 4, "scores": scores})


def efficiency():
    """The teacher takes twice as long as phase1, whose model bd kept."""
    for system, measured, times in (("teacher", "teacher", 2), ("phase1", "phase1", 1), ("bd", "phase1", 1)):
        yield {
            **{"system": system, "measured": measured, "parameters": 1000 * times, "disk_bytes": times * 2**20},
            **{"engine": "vllm, float32", "machine": "1 thread of a CPU", "prompts": 21, "tokens": 8.0},
            **{"libraries_bytes": 5 * 2**20, "peak_bytes": (5 + times) * 2**20},
            "latencies": [times * i / 1000 for i in range(1, 22)],
            **{"batch_tokens": 300, "batch_seconds": [9.0, 2.0 * times, 1.0]},
        }


def record(path, minutes):
    """Writes as much of an artifact's record as the tables read."""
    times = {"startedOn": "2026-01-01T10:00:00+00:00", "finishedOn": f"2026-01-01T10:{minutes:02}:00+00:00"}
    write_json(record_path(path), {"predicate": {"runDetails": {"metadata": times}}})


def make_tree(path):
    """Everything before the scores; the teacher is supplied from outside, so it has no run."""
    for dataset, examples in EXAMPLES.items():
        (path / "data/evaluation" / dataset).mkdir(parents=True)
        write_jsonl(path / "data/evaluation" / dataset / "examples.jsonl", map(asdict, examples))
        seal_folder(path / "data/evaluation" / dataset)
    for system in SYSTEMS:
        (path / "generations" / system).mkdir(parents=True)
        write_jsonl(path / "generations" / system / "generations.jsonl", generations(system))
        write_json(path / "generations" / system / "entropy.json", dict.fromkeys(DATASETS, 0.25))
        seal_folder(path / "generations" / system)
    run_folder(path, "phase1", bellman=False)
    run_folder(path, "bd", bellman=True)
    folder(path / "models/teacher", model={})
    folder(path / "efficiency", measured=[*efficiency()])
    counts = {"states": 60, "tokens": 50, "bytes": 1000, "entropy": 42.0, "sorted_mass": [30.0, 10.0]}
    sizes = {"sizes": {"1": 20, "2": 10, "5": 20}, "mass": 43.0, "inside": 45}
    for shard in CANDIDATES:
        folder(path / shard, statistics=counts | {"sets": {"0.8": sizes, "0.95": sizes}})
        record(path / shard, 3)
    (path / "shards").mkdir()
    for shard in ("0", "1"):
        record(path / "shards" / shard, 15)


def stage(results, name, output, settings, env=(), **inputs):
    """Runs a script in the folder above `results`; returns the finished process."""
    command = [warm_python("stages"), str(WORKFLOW / "scripts" / f"{name}.py"), "--output", f"results/{output}"]
    command += ["--state", "results/.state", "--settings", json.dumps(settings)]
    for flag, paths in inputs.items():
        files = (path if path.endswith(".json") else f"{path}/COMPLETE" for path in paths)
        command += [f"--{flag.replace('_', '-')}", *(f"results/{file}" for file in files)]
    environ = ENVIRONMENT | {"PYTHONPATH": str(WORKFLOW), "NO_PROXY": "127.0.0.1"} | dict(env)
    return subprocess.run(command, cwd=results.parent, env=environ, capture_output=True, text=True, check=False)


def succeed(*arguments, **options):
    done = stage(*arguments, **options)
    assert done.returncode == 0, done.stderr


def score(results, system):
    datasets = [f"data/evaluation/{dataset}" for dataset in DATASETS]
    output, inputs = f"scores/{system}/COMPLETE", {"generations": [f"generations/{system}"], "datasets": datasets}
    succeed(results, "score_responses", output, {"system": system, "metrics": METRICS}, **inputs)


def judge(results, pair=("bd", "phase1"), folders=None, env=(), **section):
    section = {"kind": "overlap", "decoding": "sampled"} | section
    inputs = {
        "generations": [f"generations/{system}" for system in folders or pair],
        "dataset": ["data/evaluation/dolly"],
    }
    output = f"verdicts/{'-'.join(pair)}/COMPLETE"
    return stage(results, "judge_pair", output, {"judge": section, "pair": pair}, env, **inputs)


TRAINING = {"steps": 4, "batch": 16, "micro_batch": 16, "learning_rate": 1e-3}
BELLMAN = {
    "objective": "sampled",
    "remainder": False,
    "p": 0.8,
    "chi2": "printed",
    "alpha": 0.1,
    "gamma": 0.99,
    "q_min": -10,
    "clip_scope": "all",
}


def reported(run, method, **options):
    system = {"student": "" if run == "teacher" else "student", "run": run, "method": method}
    system["is_control"] = run != "teacher" and method == "sft"
    seed, training = (None, None) if run == "teacher" else (10, TRAINING)
    return system | {"seed": seed, "options": {"start": "base", "dropout": True} | options, "training": training}


def make_tables(results, scores=SYSTEMS, output="tables"):
    options = {"start": "phase1", "permute_responses": False, "plain_text_weight": 1.0, "bellman": BELLMAN}
    settings = {
        "systems": {
            "teacher": reported("teacher", "sft"),
            "phase1": reported("phase1", "sft"),
            "bd": reported("bd", "bd", **options),
        },
        "datasets": DATASETS,
        "metrics": METRICS,
        "decodings": DECODINGS,
        "processes": 2,
        "paper": {"family": "Qwen-2.5", "students": {"student": "0.5B"}},
        "published": "of the paper",
        "seed": 10,
        "price_per_hour": 0.9,
        "currency": "EUR",
    }
    return stage(
        results,
        "make_tables",
        f"{output}/COMPLETE",
        settings,
        scores=[f"scores/{system}" for system in scores],
        entropies=[f"generations/{system}" for system in SYSTEMS],
        candidates=CANDIDATES,
        runs=["training/phase1", "training/bd"],
        models=["models/teacher", "models/phase1", "models/bd"],
        verdicts=["verdicts/bd-phase1"],
        efficiency=["efficiency"],
        sampling_records=["shards/0.prov.json", "shards/1.prov.json"],
        candidates_records=[f"{shard}.prov.json" for shard in CANDIDATES],
    )


def make_page(results, systems):
    """Runs every stage from the scores of some systems on; returns what was written."""
    for system in systems:
        score(results, system)
    for done in (judge(results), make_tables(results)):
        assert done.returncode == 0, done.stderr
    settings = {"title": "A study", "embedded": True, "decodings": DECODINGS, "deepspeed": {}, "sampling": {}}
    succeed(results, "render_tables", "tables.md", settings, tables=["tables"])
    made = [path for name in ("scores", "verdicts", "tables") for path in (results / name).rglob("*")]
    return {
        path: path.read_bytes()
        for path in [*made, results / "tables.md"]
        if path.is_file() and ".prov" not in path.name
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A results tree with its page, and the bytes of what the stages wrote."""
    results = tmp_path_factory.mktemp("study") / "results"
    make_tree(results)
    return results, make_page(results, SYSTEMS)


@pytest.fixture
def results(made):
    return made[0]


def test_a_second_run_writes_the_same_bytes(made):
    results, first = made
    for name in ("scores/bd", "verdicts", "tables"):
        shutil.rmtree(results / name)
    assert make_page(results, ["bd"]) == first
    assert {path.name for path in first} >= {f"{name}.csv" for name in COLUMNS} | {"tables.md", "verdicts.jsonl"}


def test_tables_hold_what_the_answers_were_made_to_give(results):
    tables = {name: read_table(results / "tables", name) for name in COLUMNS}
    scores = {(row["system"], row["dataset"], row["decoding"]): row for row in tables["scores"]}
    assert len(scores) == 3 * 2 * 2
    sampled, greedy = scores["teacher", "dolly", "sampled"], scores["bd", "dolly", "greedy"]
    assert [sampled[name] for name in ("mean", "std", "seeds", "prompts")] == ["100.0", "0.0", "2", "8"]
    assert [greedy[name] for name in ("mean", "std", "seeds", "prompts")] == ["87.5", "", "1", "8"]
    compared = {(row["system"], row["baseline"], row["dataset"], row["decoding"]): row for row in tables["comparisons"]}
    # bd misses prompt 1 or 2 once, phase1 every odd prompt twice.
    assert compared["bd", "phase1", "dolly", "sampled"]["difference"] == "37.5"
    assert compared["teacher", "phase1", "dolly", "sampled"]["verdict"] == "higher"
    assert {row["run"] for row in tables["learning"]} == {"bd"}
    assert [row["run"] for row in tables["training"]] == ["phase1", "bd"]
    assert [tables["training"][1][name] for name in ("sequences", "tokens", "seconds_per_update")] == [
        "64",
        "2000",
        "0.5",
    ]
    seen = {row["system"]: row for row in tables["data_seen"]}
    assert [seen["bd"][name] for name in ("start", "prompts", "labelled_rows", "sequences", "updates")] == [
        *("phase1", "40", "0", "64", "4")
    ]
    assert (seen["bd"]["score"], seen["phase1"]["labelled_rows"]) == (scores["bd", "dolly", "sampled"]["mean"], "40")
    assert [row["p"] for row in tables["candidate_sets"]] == ["0.8", "0.95"]
    expected = {"states": 100, "median_size": 2, "mean_size": 2.8, "singletons": 0.4, "p_eff": 0.86, "out_of_set": 0.1}
    expected |= {"teacher_entropy": 0.7, "bytes_per_token": 20}
    assert {name: float(tables["candidate_sets"][0][name]) for name in expected} == pytest.approx(expected)
    assert {row["entropy"] for row in tables["quality"]} == {"0.25", ""}
    assert [row["mass"] for row in tables["sorted_mass"]] == ["0.6", "0.8"]
    assert (scores["bd", "self_inst", "sampled"]["paper"], scores["bd", "dolly", "greedy"]["paper"]) == ("19.5", "")
    (ablation,) = [row for row in tables["ablations"] if (row["dataset"], row["decoding"]) == ("dolly", "sampled")]
    assert [ablation[name] for name in ("system", "over_phase1", "dev_score", "entropy")] == [
        "bd",
        "37.5",
        "48.0",
        "0.25",
    ]
    verdicts = {row["claim"]: row["verdict"] for row in tables["claims"]}
    assert verdicts["BD is above SFT on Dolly"] == verdicts["the teacher's top 7 tokens hold at least 90% of its mass"]
    assert verdicts["BD is above SFT on Dolly"] == "cannot be told"


def test_hours_are_those_of_updates_and_of_the_records_of_what_runs_share(results):
    rows = {(row["cost"], row["system"]): row for row in read_table(results / "tables", "hours")}
    bd = rows["training", "bd"]
    assert (float(bd["hours"]), float(bd["device_hours"]), bd["paper_hours"]) == (2 / 3600, 4 / 3600, "0.8")
    # Both shards, not the job that gathered them.
    assert rows["teacher samples", ""]["hours"] == "0.5"
    assert rows["candidate sets", ""]["hours"] == "0.1"


def test_efficiency_counts_by_hand_and_says_on_what(results):
    rows = {row["system"]: row for row in read_table(results / "tables", "efficiency")}
    figures = ("peak_mib", "tokens_per_second", "latency_p50_ms", "latency_p95_ms", "retention", "cost_per_million")
    told = {name: [float(row[figure]) if row[figure] else None for figure in figures] for name, row in rows.items()}
    assert told["teacher"] == [7, 75, 22, 40, None, pytest.approx(10 / 3)]
    assert told["bd"] == [6, 150, 11, 20, 0.875, pytest.approx(5 / 3)]
    assert told["phase1"] == [*told["bd"][:4], 0.5, told["bd"][5]]
    page = (results / "tables.md").read_text()
    assert (
        "Measured with vllm, float32 on 1 thread of a CPU: the first 21 prompts of dolly, `sampled`, at 0.9 EUR an "
        "hour.\n\nOne model under two names, measured once: `bd` is `phase1`."
    ) in page


def test_the_page_names_its_judge_and_no_place_of_this_machine(results):
    page = (results / "tables.md").read_text()
    assert "no independent evidence" in page and "](tables/scores.csv)" in page
    assert str(results.parent) not in page


def test_a_missing_system_is_one_line(results):
    done = make_tables(results, scores=["teacher", "phase1"], output="other")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: make_tables: --scores: expected a folder of bd, found teacher, phase1; run the rule that makes it"
    )
    assert not (results / "other").exists()


def test_the_overlap_judge_counts_by_hand(results):
    rate = read_json(results / "verdicts/bd-phase1/win_rate.json")
    # Seed 10: bd fails on prompt 1, where phase1 fails too; phase1 fails on 3, 5, 7 besides.
    assert (rate["win_rate"], rate["wins"], rate["ties"], rate["losses"]) == (0.6875, 0.375, 0.625, 0.0)
    assert (rate["judge"], rate["n"], rate["consistency"], rate["spent_usd"]) == ("reference overlap", 8, 1.0, 0.0)
    assert len(list(read_jsonl(results / "verdicts/bd-phase1/verdicts.jsonl"))) == 16


def test_folders_in_another_order_than_the_pair_are_refused(results):
    done = judge(results, ("teacher", "bd"), folders=("bd", "teacher"))
    assert done.returncode == 2
    assert "expected the folders of teacher and bd in this order" in done.stderr.splitlines()[-1]


def ask(results, server, **section):
    section = {"kind": "openai", "api_key_env": "A_KEY", "base_url": server.base_url, "prompts": 6} | section
    return judge(results, ("teacher", "phase1"), env={"A_KEY": KEY}, **section)


def test_the_openai_judge_keeps_verdicts_for_the_next_try_and_the_key_nowhere(results):
    with FakeOpenAI("A") as server:
        done = ask(results, server)
    assert (done.returncode, len(server.requests)) == (0, 12), done.stderr
    verdicts = results / "verdicts/teacher-phase1"
    rate = read_json(verdicts / "win_rate.json")
    assert (rate["judge"], rate["win_rate"], rate["consistency"]) == ("gpt-4o-mini-2024-07-18", 0.5, 0.0)
    assert rate["spent_usd"] == pytest.approx(12 * (100 * 0.15 + 0.6) / 1e6)
    verdict = next(row for _, row in read_jsonl(verdicts / "verdicts.jsonl"))
    assert (verdict["raw"], verdict["system_fingerprint"]) == ("A", "fp_fake")

    shutil.rmtree(verdicts)
    done = ask(results, server)  # closed by now: every verdict was kept
    assert done.returncode == 0, done.stderr
    assert read_json(verdicts / "win_rate.json") == rate

    written = [path for path in results.parent.rglob("*") if path.is_file()]
    assert not [path for path in written if KEY in path.read_text(errors="ignore")]


def test_a_refused_key_is_one_line_without_the_key(results):
    with FakeOpenAI("A", key="sk-other") as server:
        done = ask(results, server)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: judge_pair: judge.api_key_env: expected")
    assert KEY not in done.stderr + done.stdout


def test_responses_that_miss_a_prompt_are_one_line(results):
    folder(results / "short", generations=list(generations("bd"))[1:])
    inputs = {"generations": ["short"], "datasets": [f"data/evaluation/{dataset}" for dataset in DATASETS]}
    done = stage(results, "score_responses", "scores/short/COMPLETE", {"system": "bd", "metrics": METRICS}, **inputs)
    assert done.returncode == 2
    assert "1 missing, such as" in done.stderr.splitlines()[-1]
