"""A results folder as a small study leaves it: real seals, records and manifest, made-up contents."""

import random
from collections.abc import Iterable
from pathlib import Path

import yaml

from distill.audit.archive import Artifact
from distill.audit.keys import present_key
from distill.audit.manifest import write_manifest
from distill.evaluation.selection import selecting_metric
from distill.files import MANIFEST, canonical_json, seal_folder
from distill.provenance.record import artifact_digest, now, write_record
from distill.study.load import load_study
from distill.study.parts import judged_pairs, run_of
from distill.study.study import Study
from workplace import CONFIG, ROOT

RUNS = ("sft", "bd_sampled")


def small_config() -> dict:
    """Returns the config of the small study with two runs."""
    config = yaml.safe_load((ROOT / CONFIG).read_text())
    return config | {"runs": {name: config["runs"][name] for name in RUNS}}


def jobs(study: Study) -> list[tuple[str, str, list[str]]]:
    """Returns (artifact, rule, inputs) of a study with a scratch teacher, in an order in which they can be made."""
    sets, data = [f"data/evaluation/{name}" for name in study.data.evaluation], ["data/split", "tokenizer"]
    found = [(f"data/sources/{name}", "gather_source", []) for name in ("instructions", "plain_text")]
    found += [(f"data/sources/{name}", "gather_source", []) for name in ("self_inst", "vicuna")]
    found += [("tokenizer", "make_tokenizer", ["data/sources/instructions", "data/sources/plain_text"])]
    found += [("data/split", "split_data", ["data/sources/instructions", "tokenizer"])]
    found += [
        ("data/evaluation/dev", "prepare_evaluation", data),
        ("data/evaluation/dolly", "prepare_evaluation", [*data, "data/evaluation/dev"]),
    ]
    for name in ("self_inst", "vicuna"):
        found += [
            (f"data/evaluation/{name}", "prepare_evaluation", [f"data/sources/{name}", *data, "data/evaluation/dev"])
        ]
    for role in ("teacher", "student"):
        found += [(f"bases/{role}", "make_base", ["data/sources/plain_text", "tokenizer"])]
    teacher, student = "vocabularies/teacher", "vocabularies/student"
    found += [(teacher, "check_models", ["bases/teacher", "tokenizer"])]
    found += [(student, "check_models", ["bases/student", "tokenizer"])]
    shards, candidates = (
        [f"{folder}/{shard}" for shard in range(study.teacher_samples.shards)] for folder in ("shards", "candidates")
    )
    for name in study.systems:
        if name == "sft":
            found += [(shard, "sample_teacher", ["models/teacher", "data/evaluation/dev", *data]) for shard in shards]
            found += [("samples", "gather_samples", shards)]
            behind = ["models/teacher", "samples", teacher]
            found += [(shard, "build_candidates", behind) for shard in candidates]
        start = {"teacher": "bases/teacher", "phase1": "bases/student"}.get(name, "models/phase1")
        learnt = ["samples", *candidates] if name == "bd_sampled" else []
        inputs = [start, *learnt, teacher if name == "teacher" else student, "data/evaluation/dev", *data]
        found += [(f"training/{name}", "train_run", inputs)]
        selection = [f"training/{name}", *([start] if name == "bd_sampled" else [])]
        if selecting_metric(run_of(study, name).select):
            found += [(f"validation/{name}", "validate_run", [*selection, "data/evaluation/dev", "tokenizer"])]
            selection += [f"validation/{name}"]
        found += [(f"models/{name}", "select_checkpoint", selection)]
        found += [(f"generations/{name}", "generate_responses", [f"models/{name}", *sets, "tokenizer"])]
        found += [(f"scores/{name}", "score_responses", [f"generations/{name}", *sets])]
    found += [
        ("efficiency", "measure_efficiency", [*(f"models/{name}" for name in study.systems), sets[0], "tokenizer"])
    ]
    for pair in judged_pairs(study):
        inputs = [*(f"generations/{name}" for name in pair), "data/evaluation/dolly"]
        found += [(f"verdicts/{'-'.join(pair)}", "judge_pair", inputs)]
    verdicts = [name for name, rule, _ in found if rule == "judge_pair"]
    found += [("tables", "make_tables", [f"scores/{name}" for name in study.systems] + ["efficiency", *verdicts])]
    found += [("tables.md", "render_tables", ["tables"]), ("figures", "draw_figures", ["tables"])]
    return [*found, ("report.html", "render_report", ["tables", "figures", *sets, *verdicts])]


def record_job(
    path: Path, results: Path, rule: str, key: dict, inputs: Iterable[tuple[str, Path]], output: str, state: str
) -> None:
    """Writes the record of a made-up job.

    Args:
        path: the artifact.
        key: the job's settings, code and lock.
        inputs: artifacts, each with the input's name.
        output, state: as on the command line.
    """
    options = {"--settings": canonical_json(key["settings"]), "--code": key["code"], "--lock": key["lock"]}
    options |= {"--state": state, "--output": output}
    write_record(
        path,
        results=results,
        rule=rule,
        command=["python", f"workflow/scripts/{rule}.py", *(part for option in options.items() for part in option)],
        settings=key["settings"],
        code=key["code"],
        lock=key["lock"],
        inputs={str(used): {"name": name, "sha256": artifact_digest(used)} for name, used in inputs},
        started=now(),
        startup=0.0,
        checking=0.0,
        tries=1,
        resumed=False,
        notes={},
    )


def make_small_archive(results: Path, config: dict) -> Study:
    """Writes results, their records and the root manifest; contents differ from file to file."""
    study, draw = load_study(config), random.Random(1)

    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw.randbytes(draw.randrange(40, 400)))

    for name, rule, inputs in jobs(study):
        path = results / name
        output = f"results/{name}"
        if path.suffix:
            write(path)
        else:
            for part in ("rows.jsonl", "deep/model.safetensors")[: draw.randrange(1, 3)]:
                write(path / part)
            seal_folder(path)
            output = f"{output}/{MANIFEST}"
        statement = {"predicate": {"buildDefinition": {"externalParameters": {"rule": rule, "settings": {}}}}}
        key = present_key(study, Artifact(name, path, statement), ROOT)
        used = [(one.split("/")[0], results / one) for one in inputs]
        record_job(path, results, rule, key, used, output=output, state="results/.state")
        write(results / "logs" / rule / f"{path.name}.log")
        write(results / "benchmarks" / rule / f"{path.name}.tsv")
    write(results / "README.md")
    write(results / ".state" / "unfinished" / "step.json")
    write_manifest(results)
    return study
