"""The workflow started from other places than the repository's folder: it works, or one line says why not."""

import os
import subprocess
import sys

import pytest

from workplace import CONFIG, ROOT

SOURCE = "data/sources/vicuna/COMPLETE"


def snakemake(folder, *arguments):
    """Runs Snakemake in a folder as a user would; returns its exit code and all it said."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    environment["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def last_line(said):
    return said.rstrip().splitlines()[-1]


def test_a_snakefile_named_by_its_path(tmp_path):
    code, said = snakemake(tmp_path, "-s", ROOT / "Snakefile", f"results/{SOURCE}", "--configfile", ROOT / CONFIG)
    assert code == 0, said
    assert (tmp_path / "results" / SOURCE).is_file() and last_line(said).startswith("results/MANIFEST.json: sha256:")


def test_another_working_directory(tmp_path):
    code, said = snakemake(ROOT, "--directory", tmp_path, f"results/{SOURCE}", "--configfile", CONFIG)
    assert code == 0, said
    assert (tmp_path / "results" / SOURCE).is_file()


def test_a_working_directory_without_a_config_takes_the_repositorys_and_one_with_its_own(tmp_path):
    code, said = snakemake(tmp_path, "-s", ROOT / "workflow" / "Snakefile", "--dry-run")  # the one for catalogs
    assert code == 0 and "train_run" in said, said
    (tmp_path / "config.yaml").write_text("titel: Mine\n")
    code, said = snakemake(tmp_path, "-s", ROOT / "Snakefile", "--dry-run")
    assert code == 1 and last_line(said) == (
        "error: config: titel: unknown key; delete it or see config.yaml for the keys that exist (did you mean title?)"
    )


@pytest.mark.parametrize("prefix", ["", " as study_*"], ids=["own names", "prefixed names"])
def test_a_module_of_another_workflow(tmp_path, prefix):
    (tmp_path / "mine.yaml").write_text(f"study: {{results: out, title: Mine}}\nkept: {ROOT / CONFIG}\n")
    (tmp_path / "Snakefile").write_text(
        f"""
configfile: "mine.yaml"
module distillation:
    snakefile: "{ROOT / "Snakefile"}"
    config: config["study"]
use rule * from distillation{prefix}
rule mine:
    default_target: True
    input: "out/{SOURCE}"
    output: "mine.txt"
    shell: "cp {{input}} {{output}}"
"""
    )
    code, said = snakemake(tmp_path)
    assert code == 0, said
    assert (tmp_path / "mine.txt").read_bytes() == (tmp_path / "out" / SOURCE).read_bytes()


def test_targets_behind_the_configfile_and_dotted_keys_end_in_snakemakes_own_line(tmp_path):
    command = "-s", ROOT / "Snakefile", "--dry-run"
    code, said = snakemake(tmp_path, *command, "--configfile", ROOT / CONFIG, "results/tables.md")
    assert code == 1 and "\nFileNotFoundError: [Errno 2] No such file or directory: 'results/tables.md'\n" in said
    code, said = snakemake(tmp_path, *command, "--config", "generation.seeds=[10]")
    assert code == 1 and "Invalid config definition: Config entry must start with a valid identifier." in said
    code, said = snakemake(tmp_path, *command, "--config", "generation={seedz: [10]}")
    assert code == 1 and last_line(said).startswith("error: config: generation.seedz: unknown key;")


def test_a_paid_judge_without_a_key_ends_before_anything_is_made(tmp_path):
    (tmp_path / "mine.yaml").write_text("judge: {kind: openai}\n")
    command = "-s", ROOT / "Snakefile", "--configfile", "mine.yaml"
    code, said = snakemake(tmp_path, *command)
    assert code == 1 and not (tmp_path / "results" / "data").exists()
    assert last_line(said) == (
        "error: judge.api_key_env: expected an API key in the environment variable OPENAI_API_KEY, found none; set it, "
        "or set judge.kind to overlap"
    )
    code, said = snakemake(tmp_path, f"results/{SOURCE}", *command)
    assert code == 0, "what needs no judge is made without"
