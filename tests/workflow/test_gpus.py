"""As many jobs run at a time as there are GPUs for, each started with its own; all GPUs are simulated."""

import re

import pytest

from workplace import check_out

ARTIFACT = "results/data/sources/instructions/COMPLETE"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A copy of the repository without results."""
    return check_out(tmp_path_factory.mktemp("gpus") / "study")


def run(study, *arguments, warm=True, **environment):
    result = study.snakemake(*arguments, warm=warm, **environment)
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.mark.parametrize(
    ("arguments", "visible", "bound"),
    [
        ((), "0,1", 2),
        ((), "5", 1),
        (("--resources", "gpu=3"), "0,1", 3),
        ((), "", None),
        (("--jobs", "2"), "0,1", None),  # where jobs run elsewhere this must be given
    ],
)
def test_the_devices_of_this_machine_bound_what_its_jobs_ask_for(fresh, arguments, visible, bound):
    asked = 9
    text = run(
        fresh,
        ARTIFACT,
        "--dry-run",
        "--printshellcmds",
        "--set-resources",
        f"gather_source:gpu={asked}",
        *arguments,
        CUDA_VISIBLE_DEVICES=visible,
    )
    given = str(bound or asked)
    assert re.findall(r"resources: .*\bgpu=(\d+)", text) == [given]
    assert re.findall(r"^Shell command: (.*) workflow/scripts", text, re.MULTILINE) == [
        f"python -m distill.launch --gpus {given} 1 python"
    ]


def test_devices_are_no_part_of_what_makes_a_job_run_again(fresh):
    given = {"CUDA_VISIBLE_DEVICES": "0,1", "DISTILL_LEASES": str(fresh.folder / "locks")}
    run(fresh, ARTIFACT, "--set-resources", "gather_source:gpu=2", warm=False, **given)
    assert {path.name for path in (fresh.folder / "locks").iterdir()} >= {"0", "1"}
    assert "Nothing to be done" in run(fresh, ARTIFACT, "--dry-run")
