"""What a user reads last where a job failed: its own line, or what is known of one that could write none."""

import signal

import pytest

from distill.provenance import failures
from distill.provenance.failures import STOPPED, last_errors
from distill.stopping import Stopped

BLOCK = """Command 'set -euo pipefail;  python x.py > {log} 2>&1' {end}.
[Fri Nov 27 08:37:56 2026]
Error in rule score_responses:
    message: None
    jobid: 0
    log: {log} (check log file(s) for error details)
    shell:
"""


def line_of(tmp_path, text, end="returned non-zero exit status 1"):
    log = tmp_path / "sft.log"
    log.write_text(text)
    (line,) = last_errors(BLOCK.format(log=log, end=end), "all.log")
    assert line.endswith(f" (log: {log})")
    return line


def test_the_first_line_of_the_job_itself_counts_whatever_follows(tmp_path):
    text = "x\nerror: score_responses: a.jsonl:1: bad\x1b[2J\nerror: score_responses: peer gone\n=====\n"
    assert line_of(tmp_path, text).startswith("error: score_responses: a.jsonl:1: bad\\x1b[2J (log")


@pytest.mark.parametrize("end", ["returned non-zero exit status 137", "died with <Signals.SIGKILL: 9>"])
def test_a_killed_job_says_so(tmp_path, end):
    line = line_of(tmp_path, "step 3\n", end)
    assert line.startswith("error: score_responses: ") and "killed" in line and "memory" in line


def test_a_killed_process_of_several_is_seen(tmp_path):
    assert "one of its processes killed" in line_of(tmp_path, "Signal 9 (SIGKILL) received by PID 7\n")


def test_a_job_that_could_write_nothing_on_a_full_disk_says_so(tmp_path, monkeypatch):
    silent = line_of(tmp_path, "")
    assert "expected a line that says why it failed, found none and exit status 1" in silent
    monkeypatch.setattr(failures, "is_full", lambda folder: True)
    line = line_of(tmp_path, "")
    assert "sft.log: expected room on the disk, found No space left on device (" in line and " MB free)" in line


def test_last_words_stand_for_a_line_that_is_missing(tmp_path):
    assert "found ImportError: no torch and exit status 1; see its log" in line_of(
        tmp_path, "ImportError: no torch\n\n"
    )


def test_what_libraries_say_behind_an_exception_is_not_the_reason(tmp_path):
    text = "Traceback:\nvllm.errors.EngineDeadError: no core\nnanobind: leaked 4 instances!\n - leaked type x\n"
    assert "found vllm.errors.EngineDeadError: no core and exit" in line_of(tmp_path, text)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("InputFunctionException", "Error:\n  KeyError: 'sft'\nWildcards:\nsystem=sft\nTraceback:\n"),
        ("MissingOutputException", "KeyError: 'sft'\n"),
    ],
)
def test_an_error_in_no_jobs_log_names_rule_exception_and_snakemakes_log(error, words):
    text = f'Building DAG\n{error} in rule train_run in file "/x/training.smk", line 9:\n{words}Shutting down\n'
    assert last_errors(text, "all.log") == [f"error: train_run: {error}: KeyError: 'sft' (log: all.log)"]


def test_ctrl_c_is_one_calm_line():
    text = "Terminating processes on user request, this might take some time.\n" + BLOCK.format(log="a", end="x")
    assert last_errors(text, "all.log") == [STOPPED]


def test_ctrl_c_that_snakemake_lost_is_told_by_the_job(tmp_path):
    (log := tmp_path / "sft.log").write_text(f"error: score_responses: {Stopped(signal.SIGINT)}\n")
    (other := tmp_path / "kd.log").write_text("error: score_responses: a.jsonl:1: bad\n")
    block, more = (BLOCK.format(log=one, end="returned non-zero exit status 130") for one in (log, other))
    assert last_errors(block, "all.log") == [STOPPED]
    assert last_errors(block + more, "all.log") == [f"error: score_responses: a.jsonl:1: bad (log: {other})", STOPPED]


def test_a_job_that_slurm_did_not_take_says_so_whatever_stands_in_an_older_log(tmp_path):
    text = BLOCK.format(log=tmp_path / "sft.log", end="x")
    refused = "SLURM sbatch failed. The error message was 'sbatch: error: Requested node is not available'."
    (tmp_path / "sft.log").write_text("an older one\n")
    assert last_errors(text.replace("message: None", f"message: {refused}"), "all.log") == [
        "error: score_responses: expected Slurm to take its job, found sbatch: error: Requested node is not available; "
        "see docs/cluster.md"
    ]
