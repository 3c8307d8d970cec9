"""Change by change, what a rerun makes again: exactly what the change can reach, and nothing else."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable

import pytest

FINE_TUNED, BELLMAN = ("teacher", "phase1", "sft", "sft_continued"), ("bd_sampled", "bd_released")
BASELINES = ("sft", "sft_continued", "kd", "seqkd", "minillm")
SYSTEMS = ("teacher", "phase1", *BASELINES, *BELLMAN)
SETS = ("dolly", "self_inst", "vicuna")
VALIDATED = SYSTEMS[2:]
BASES = ["bases/teacher", "bases/student"]
CANDIDATES = ["candidates/0", "candidates/1"]
PAIRS = [(system, other) for system in BELLMAN for other in ("phase1", *BASELINES)]


def each(folder: str, names: Iterable[str]) -> list[str]:
    return [f"{folder}/{name}" for name in names]


# The way of the small study's data: each artifact and what is made from it.
FOLLOWERS = {
    "data/sources/instructions": ["tokenizer", "data/split"],
    "data/sources/plain_text": ["tokenizer", *BASES, *each("training", ("minillm", *BELLMAN))],
    "data/sources/self_inst": ["data/evaluation/self_inst"],
    "data/sources/vicuna": ["data/evaluation/vicuna"],
    "tokenizer": ["data/split", *BASES],
    "data/split": [*each("data/evaluation", ("dev", *SETS))],
    "data/evaluation/dev": [
        *each("data/evaluation", SETS),
        *each("training", SYSTEMS),
        *each("validation", VALIDATED),
        "shards/0",
        "shards/1",
    ],
    **{f"data/evaluation/{name}": [*each("generations", SYSTEMS), "report.html"] for name in SETS},
    "efficiency": ["tables"],
    "bases/teacher": ["vocabularies/teacher", "training/teacher"],
    "bases/student": ["vocabularies/student", *each("training", ("phase1", "sft", "kd", "seqkd"))],
    "vocabularies/teacher": ["training/teacher", *CANDIDATES],
    "vocabularies/student": each("training", SYSTEMS[1:]),
    **{f"training/{name}": [f"models/{name}", "figures"] for name in SYSTEMS},
    **{f"validation/{name}": [f"models/{name}"] for name in VALIDATED},
    **{f"models/{name}": [f"generations/{name}", "efficiency"] for name in SYSTEMS},
    **{f"generations/{name}": [f"scores/{name}", "report.html"] for name in SYSTEMS},
    **{f"scores/{name}": ["tables", "figures"] for name in SYSTEMS},
    "shards/0": ["samples"],
    "shards/1": ["samples"],
    "samples": [*CANDIDATES, *each("training", ("seqkd", *BELLMAN))],
    **{name: [*each("training", BELLMAN), "tables"] for name in CANDIDATES},
    **{f"verdicts/{first}-{second}": ["tables", "report.html"] for first, second in PAIRS},
    "tables": ["tables.md", "figures", "report.html"],
    "tables.md": [],
    "figures": ["report.html"],
    "report.html": [],
}
FOLLOWERS["data/evaluation/dolly"] += ["efficiency"]
for name in VALIDATED:
    FOLLOWERS[f"training/{name}"].append(f"validation/{name}")
for name in ("sft_continued", "minillm", *BELLMAN):
    FOLLOWERS["models/phase1"] += [f"{folder}/{name}" for folder in ("training", "validation", "models")]
FOLLOWERS["models/teacher"] += ["shards/0", "shards/1", *CANDIDATES, *each("training", ("kd", "minillm"))]
for first, second in PAIRS:
    for name in (first, second):
        FOLLOWERS[f"generations/{name}"].append(f"verdicts/{first}-{second}")


def from_(*artifacts: str) -> set[str]:
    """Returns the artifacts and all that is made from them."""
    found, waiting = set(), list(artifacts)
    while waiting:
        artifact = waiting.pop()
        if artifact not in found:
            found.add(artifact)
            waiting += FOLLOWERS[artifact]
    return found


EVERYTHING = from_(*each("data/sources", ("instructions", "plain_text", "self_inst", "vicuna")))
TRAINING = each("training", SYSTEMS)
GENERATIONS = each("generations", SYSTEMS)
SAMPLED = ["shards/0", "shards/1", *each("validation", VALIDATED), *GENERATIONS, "efficiency"]
VERDICTS = [f"verdicts/{first}-{second}" for first, second in PAIRS]

CONFIG_CHANGES = {
    "when trainings are saved": ({"save_every_minutes": 30}, set()),
    "which checkpoints stay": ({"keep_checkpoints": "selected"}, set()),
    "title": ({"title": "Another heading"}, {"tables.md"}),
    "rows of the paper": ({"paper": {"family": "GPT-2", "students": {"student": "120M"}}}, from_("tables")),
    "one generation seed more": ({"generation.seeds": [10, 20, 30]}, from_(*GENERATIONS)),
    "longer answers": (
        {"generation.max_new_tokens": 14},
        from_(*GENERATIONS, *each("validation", VALIDATED), "efficiency"),
    ),
    "longer answers to one set": ({"data.evaluation.dolly.max_new_tokens": 14}, from_(*GENERATIONS, "efficiency")),
    "prompts that efficiency is measured on": ({"efficiency.prompts": 5}, from_("efficiency")),
    "the price of an hour": ({"efficiency.price_per_hour": 2}, from_("tables")),
    "longer answers to learn from": (
        {"teacher_samples.max_new_tokens": 14},
        from_("shards/0", "shards/1", *each("models", SYSTEMS)),
    ),
    "metric of a set": ({"data.evaluation.self_inst.metric": "exact_match"}, from_(*each("scores", SYSTEMS))),
    "metric that selects": ({"runs.sft.select": "dev_exact_match"}, from_("models/sft")),
    "fewer validated rows": ({"generation.dev_rows": 12}, from_(*each("validation", VALIDATED))),
    "learning rate of a bd run": ({"runs.bd_released.training.learning_rate": 2e-3}, from_("training/bd_released")),
    "p of a bd run, still within the candidate sets": (
        {"runs.bd_released.bellman.p": 0.5},
        from_("training/bd_released"),
    ),
    "learning rate of the run whose updates sft_continued takes": (
        {"runs.bd_sampled.training.learning_rate": 2e-3},
        from_("training/bd_sampled"),
    ),
    "steps of the run whose updates sft_continued takes": (
        {"runs.bd_sampled.training.steps": 4},
        from_("training/bd_sampled", "training/sft_continued"),
    ),
    "largest p of the candidate sets": ({"candidates.p_max": 0.9}, from_(*CANDIDATES)),
    "steps of the teacher": ({"teacher.training.steps": 30}, from_("training/teacher")),
    "steps of phase 1": ({"phase1.training.steps": 15}, from_("training/phase1")),
    "more samples a prompt": ({"teacher_samples.per_prompt": 3}, from_("shards/0", "shards/1")),
    "micro-batch of a run": ({"runs.sft.training.micro_batch": 16}, from_("training/sft")),
    "checkpoint rule that needs no validation": ({"runs.sft.select": "last"}, from_("models/sft")),
    "checkpoint rule that needs validation": (
        {"teacher.select": "dev_rouge_l"},
        {"validation/teacher"} | from_("models/teacher"),
    ),
    "sampling engine": ({"sampling.engine": "transformers"}, from_(*SAMPLED)),
    "judged pairs": (
        {"judge.pairs": [["bd_sampled", "phase1"], ["sft", "phase1"]]},
        {"verdicts/sft-phase1"} | from_("tables"),
    ),
    "judged prompts": ({"judge.prompts": 10}, from_(*VERDICTS)),
    "interpreters": ({f"environments.{name}.python": "python3" for name in ("light", "train", "vllm")}, set()),
    "threads of training": ({"deepspeed.threads": 2}, from_(*BASES, *TRAINING, *CANDIDATES)),
    "seed of the study": ({"seed": 11}, from_(*BASES, *TRAINING, "shards/0", "shards/1", "tables")),
    "seed of the world": ({"data.world_seed": 1}, EVERYTHING),
    "seed of the split": ({"data.split_seed": 43}, from_("data/split")),
    "an evaluation set more": (
        {"data.evaluation.extra": {"kind": "hub", "repository": "example/data", "revision": "0" * 40}},
        {"data/sources/extra", "data/evaluation/extra"} | from_(*GENERATIONS),
    ),
    "a test set whose prompts dev is to leave out": ({"data.dev.leave_out": ["vicuna"]}, from_("data/evaluation/dev")),
    "a run less": ({"runs.bd_released": None}, from_("efficiency")),
}


@pytest.fixture(scope="module")
def copied(micro_study, tmp_path_factory):
    """A private copy of the small study for all tests that change no results and run nothing."""
    copy = micro_study.copy(tmp_path_factory.mktemp("copied"))
    yield copy
    shutil.rmtree(copy.folder)


@pytest.fixture
def planning(copied):
    """The copied study; whatever file of the repository a test edits or adds is put back afterwards."""
    yield copied
    for command in (["checkout", "--quiet", "."], ["clean", "-dfq"]):
        subprocess.run(["git", *command], cwd=copied.folder, check=True)


@pytest.mark.parametrize("case", CONFIG_CHANGES)
def test_config_change(planning, case):
    changes, expected = CONFIG_CHANGES[case]
    planning.configure(changes)
    assert set(planning.planned()) == expected | {"report.html"}, "the report holds the whole config"


def test_what_is_said_of_machines_alone_reruns_nothing(planning):
    planning.configure({"store": "../store", "device_memory_gb": 40, "deepspeed.nodes": 1, "sampling.processes": 2})
    assert planning.planned() == {}


def test_a_run_more(planning):
    run = {"method": "bd", "bellman": {"p": 1}, "training": {"steps": 4, "batch": 16, "learning_rate": 1e-3}}
    planning.configure({"runs.bd_full": run | {"training": run["training"] | {"micro_batch": 16}}})
    own = each("verdicts", (f"bd_full-{other}" for other in ("phase1", *BASELINES)))
    own += [f"{folder}/bd_full" for folder in ("training", "validation", "models", "generations", "scores")]
    assert set(planning.planned()) == {*own, *from_("efficiency")}


def test_a_student_more(planning):
    model = {"kind": "scratch", "hidden_size": 96, "layers": 1, "heads": 3}
    model["pretraining"] = {"steps": 20, "learning_rate": 4e-3, "evaluate_every": 20}
    planning.configure(
        {"further_students.wide": {"model": model, "runs": {"sft": {"training": {"learning_rate": 2e-3}}, "kd": None}}}
    )
    runs = [f"wide.{name}" for name in SYSTEMS[1:] if name != "kd"]
    own = [f"{folder}/{name}" for name in runs for folder in ("training", "models", "generations", "scores")]
    own += ["bases/wide", "vocabularies/wide", *(f"validation/{name}" for name in runs if name != "wide.phase1")]
    assert set(planning.planned()) == {*own, *from_("efficiency")}


def test_preferences_and_a_run_on_them_more(planning):
    training = {"steps": 4, "batch": 16, "micro_batch": 16, "learning_rate": 1e-3}
    pairs = {"kind": "world", "train": 40, "dev": 12, "test": 24}
    planning.configure(
        {
            "preferences": {"pairs": pairs, "teacher": {"training": training}},
            "runs.tvkd": {"method": "tvkd", "start": "sft", "training": training},
        }
    )
    own = [f"{folder}/{name}" for name in ("teacher_dpo", "tvkd") for folder in ("training", "models")]
    own += [f"{folder}/{name}" for name in ("teacher_dpo", "tvkd") for folder in ("generations", "scores")]
    own += each("rankings", (*SYSTEMS, "teacher_dpo", "tvkd"))
    own += each("verdicts", (f"tvkd-{other}" for other in ("phase1", *BASELINES)))
    assert set(planning.planned()) == {"data/pairs", "values", *own, *from_("efficiency")}


PACKAGE, MARK = "workflow/distill", "\nMARK = 1\n"
CODE_CHANGES = {
    "a comment": (f"{PACKAGE}/methods/bd/reference.py", None, "# A comment.\n", set()),
    "a docstring": (f"{PACKAGE}/provenance/stage.py", '"""Runs one stage: ', '"""Runs one single stage: ', set()),
    "the Bellman loss": (f"{PACKAGE}/methods/bd/reference.py", None, MARK, from_(*each("training", BELLMAN))),
    "a method": (
        f"{PACKAGE}/methods/sft/__init__.py",
        None,
        MARK,
        from_(*each("training", FINE_TUNED)),
    ),
    "a baseline": (f"{PACKAGE}/methods/kd/__init__.py", None, MARK, from_("training/kd")),
    "the policy gradient": (f"{PACKAGE}/methods/minillm/objective.py", None, MARK, from_("training/minillm")),
    "the cross entropy": (f"{PACKAGE}/losses/cross_entropy.py", None, MARK, from_(*BASES, *TRAINING)),
    "the judge's wording": (f"{PACKAGE}/judging/prompts.py", None, MARK, from_(*VERDICTS)),
    "a metric": (
        f"{PACKAGE}/metrics/rouge_l.py",
        None,
        MARK,
        from_(*each("scores", SYSTEMS), *VERDICTS, *each("models", VALIDATED)),
    ),
    "a metric that selects nothing": (
        f"{PACKAGE}/metrics/exact_match.py",
        None,
        MARK,
        from_(*each("scores", SYSTEMS)),
    ),
    "a metric more": (f"{PACKAGE}/metrics/mine.py", None, "from distill.metrics.exact_match import METRIC\n", set()),
    "what a metric measures": (
        f"{PACKAGE}/metrics/rouge_l.py",
        "F-measure with stemming",
        "F-measure with Porter stemming",
        {"tables.md", "report.html"},
    ),
    "how efficiency is measured": (f"{PACKAGE}/sampling/measuring.py", None, MARK, from_("efficiency")),
    "the judge's config model": (f"{PACKAGE}/config/judge.py", None, MARK, from_(*VERDICTS)),
    "the text of a key's description": (f"{PACKAGE}/config/training.py", "Peak learning rate", "Highest rate", set()),
    "a caption": (f"{PACKAGE}/pages/captions.py", None, MARK, {"tables.md", "report.html"}),
    "the caption of a table": (
        f"{PACKAGE}/report/tables/scores.py",
        "over sampling seeds of one trained model",
        "over the sampling seeds of one trained model",
        {"tables.md", "report.html"},
    ),
    "a table more": (f"{PACKAGE}/report/tables/mine.py", None, MARK, from_("tables")),
    "a word of the report": (f"{PACKAGE}/pages/page_words.py", None, MARK, {"report.html"}),
    "the report's script": (f"{PACKAGE}/pages/page.js", None, "// A comment\n", {"report.html"}),
    "a figure": (f"{PACKAGE}/pages/figures.py", None, MARK, from_("figures")),
    "a table": (f"{PACKAGE}/report/tables/scores.py", None, MARK, from_("tables")),
    "a script": (
        "workflow/scripts/build_candidates.py",
        "REPORTED_P = (0.5,",
        "REPORTED_P = (0.4,",
        from_(*CANDIDATES),
    ),
    "the chat template": (f"{PACKAGE}/data/chat_template.py", None, MARK, from_(*each("models", SYSTEMS))),
    "the transformers engine": (
        f"{PACKAGE}/sampling/transformers_engine.py",
        None,
        MARK,
        from_(*SAMPLED, "training/minillm"),
    ),
    "the lock": ("envs/cpu.lock", None, "another-package==1.0\n", EVERYTHING),
    "one more tool": ("envs/tools.lock", None, "another-package==1.0\n", set()),
    "a comment in the config": (
        "tests/fixtures/micro.yaml",
        "judge: {kind: overlap}",
        "judge:  {kind: 'overlap'}  # free",
        set(),
    ),
}


REPORT = {"report.html"}
SECTIONS = {  # what reads a section, of which the report shows all
    "report.Report": REPORT,
    "data.Data": REPORT,
    "data.Evaluated": REPORT,
    "models.Models": REPORT,
    "environments.Environment": REPORT,
    "phase1.Phase1Run": REPORT,
    "judge.Judging": from_(*VERDICTS),
    "remote.RemoteModel": from_(*VERDICTS),
    "paper.Paper": from_("tables"),
    "generation.Generation": from_(*GENERATIONS, *each("validation", VALIDATED), "efficiency"),
    "efficiency.Efficiency": REPORT,
    "sampling.Sampling": from_(*SAMPLED),
    "candidates.Candidates": from_(*CANDIDATES),
    "teacher_samples.TeacherSamples": from_("shards/0", "shards/1"),
    "runs.Run": from_(*TRAINING),
    "training.Training": from_(*BASES, *TRAINING),
    "deepspeed.DeepSpeed": from_(*BASES, *TRAINING, *CANDIDATES),
    "base_models.ScratchModel": from_(*BASES),
    "sources.FileSource": EVERYTHING,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_a_new_key_reruns_what_reads_its_section(planning, section):
    module, name = section.split(".")
    text = (planning.folder / PACKAGE / "config" / f"{module}.py").read_text()
    head = re.search(rf"^class {name}\(.*\):", text, re.MULTILINE)[0]
    planning.replace(
        f"{PACKAGE}/config/{module}.py", head, f"{head}\n    new_key: int = Field(0, description='New.')\n"
    )
    assert set(planning.planned()) == SECTIONS[section]


@pytest.mark.parametrize("case", CODE_CHANGES)
def test_change_of_a_file(planning, case):
    path, old, new, expected = CODE_CHANGES[case]
    if old is None:
        with open(planning.folder / path, "a") as file:
            file.write(new)
    else:
        planning.replace(path, old, new)
    assert set(planning.planned()) == expected


def test_nothing_changed_but_what_shows_curves(planning):
    """Not even the page that shows the config is made again."""
    planning.configure({"tracker": "wandb"})
    assert planning.planned(warm=False) == {}


def test_touched_but_equal_files(workplace):
    for path in workplace.results.rglob("*"):
        if path.is_file() and ("data" in path.parts or "models" in path.parts):
            os.utime(path)
    assert workplace.planned() == {}


@pytest.mark.parametrize(
    ("artifact", "changes", "expected"),
    [
        ("tables", {}, from_("tables")),
        # Snakemake makes an intermediate result again only for something that needs it.
        ("models/bd_sampled", {}, set()),
        ("models/bd_sampled", {"generation.seeds": [10]}, from_("models/bd_sampled", *GENERATIONS)),
    ],
)
def test_deleted_artifact(workplace, artifact, changes, expected):
    (workplace.results / artifact / "COMPLETE").unlink()
    workplace.configure(changes)
    assert set(workplace.planned()) == expected


def test_files_of_a_local_source_are_part_of_the_key(workplace):
    text = (workplace.results / "data/sources/vicuna/examples.jsonl").read_text()
    file = workplace.folder / "mine.jsonl"
    file.write_text(text)
    workplace.configure({"data.evaluation.vicuna": {"kind": "file", "path": "mine.jsonl"}})
    workplace.run("results/data/sources/vicuna/COMPLETE")
    assert set(workplace.planned()) == {"report.html"}  # the same rows from another place, which the report names
    os.utime(file)
    assert set(workplace.planned()) == {"report.html"}
    file.write_text(text.replace("\n", " \n", 1))
    assert set(workplace.planned()) == from_("data/sources/vicuna")


def test_external_model_replaces_the_stages_before_it(workplace, tmp_path):
    (workplace.results / "models" / "teacher").rename(tmp_path / "teacher")
    workplace.configure({"external.teacher": str(tmp_path / "teacher")})
    (workplace.results / "training" / "teacher" / "COMPLETE").unlink()
    (workplace.results / "bases" / "teacher" / "COMPLETE").unlink()
    planned = workplace.planned()
    assert planned["models/teacher"] == "adopt_model"
    made_again = from_("vocabularies/teacher", "vocabularies/student", "models/teacher")
    assert set(planned) == made_again - {"training/teacher"}


def test_external_samples_replace_the_shards(workplace, tmp_path):
    shutil.copyfile(workplace.results / "samples" / "samples.jsonl", tmp_path / "samples.jsonl")
    workplace.configure({"external.samples": str(tmp_path / "samples.jsonl")})
    for shard in "01":
        (workplace.results / "shards" / shard / "COMPLETE").unlink()
    planned = workplace.planned()
    assert planned["samples"] == "adopt_samples"
    assert set(planned) == from_("samples")


def test_external_phase1_replaces_its_training(workplace, tmp_path):
    (workplace.results / "models" / "phase1").rename(tmp_path / "phase1")
    workplace.configure({"external.phase1": str(tmp_path / "phase1")})
    (workplace.results / "training" / "phase1" / "COMPLETE").unlink()
    planned = workplace.planned()
    assert planned["models/phase1"] == "adopt_model"
    assert set(planned) == from_("models/phase1")
