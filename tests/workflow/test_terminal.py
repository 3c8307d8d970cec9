"""What a person sees on a terminal: a run, its end, a stop, a failure; and Snakemake's own words without one."""

import re
import shutil

from terminal import CTRL_C, Terminal


def last_lines(screen: str, number: int = 1) -> list[str]:
    return screen.rstrip().splitlines()[-number:]


def test_a_run_shows_its_jobs_and_ends_with_the_report_and_the_digest(workplace):
    (workplace.results / "report.html").unlink()
    terminal = Terminal(workplace, warm=True)
    shown = ("render_report", "jobs done  ━", "Reused: ")
    running = terminal.read(until=lambda screen: all(words in screen for words in shown))
    assert all(words in running for words in shown) and "✓ render_report" not in running
    code, screen = terminal.end()
    assert code == 0, screen
    (line,) = [line for line in screen.splitlines() if line.startswith("✓ render_report ")]
    assert " results/report.html: made in " in line
    assert "rule render_report:" not in screen
    end = r"Report: results/report\.html results/MANIFEST\.json: sha256:[\da-f ]{64,}$"
    assert re.search(end, " ".join(screen.split())), screen  # a narrow screen breaks the last line
    again = Terminal(workplace, warm=True).end()[1]
    assert "Nothing to be done" in again and re.search(end, " ".join(again.split())), again


def test_ctrl_c_stops_and_the_same_command_goes_on(workplace):
    target = "results/training/sft/COMPLETE"
    shutil.rmtree(workplace.results / "training" / "sft")
    workplace.configure({"runs.sft.training.steps": 1000})  # so that it does not end before it is stopped
    terminal = Terminal(workplace, target)
    # Snakemake loses a Ctrl-C that comes while it writes its own log, as it does when a job starts.
    terminal.read(until=lambda screen: "/1,000 " in screen)
    terminal.press(CTRL_C)
    code, screen = terminal.end()
    assert code != 0
    assert "■ train_run sft (log: results/logs/train_run/sft.log)" in screen
    assert last_lines(screen) == ["Stopped. The same command goes on."]
    code, screen = Terminal(workplace, target, warm=True).end()
    assert code == 0
    (line,) = [line for line in screen.splitlines() if line.startswith("✓ train_run sft ")]
    assert " results/training/sft: made in " in line and ", going on from an " in line


def test_a_failure_ends_with_its_one_line(workplace):
    (workplace.folder / "mine.jsonl").write_text('{"instruction": "b", \n')
    workplace.configure({"data.evaluation.vicuna": {"kind": "file", "path": "mine.jsonl"}})
    code, screen = Terminal(workplace, "results/data/sources/vicuna/COMPLETE", warm=True).end()
    assert code == 1
    assert "✗ gather_source vicuna (log: results/logs/gather_source/vicuna.log)" in screen
    assert "CalledProcessError" not in screen and "Traceback" not in screen
    (last,) = last_lines(screen)
    assert last.startswith("error: gather_source: mine.jsonl:1: expected one JSON object a line, found malformed JSON")
    assert last.endswith("(log: results/logs/gather_source/vicuna.log)")


def test_snakemakes_own_words_stay_at_hand(workplace):
    """In a dry run, where they are asked for, and where output is no terminal; `--quiet` is quiet."""
    shutil.rmtree(workplace.results / "scores" / "sft")
    target = "results/scores/sft/COMPLETE"
    plans = Terminal(workplace, target, "--dry-run", warm=True).end()[1], workplace.run(target, "--dry-run")
    plans = [text.partition("Building DAG of jobs...")[2] for text in plans]
    shown, piped = ([line.rstrip() for line in text.splitlines() if not line.startswith("[")] for text in plans)
    assert "rule score_responses:" in shown and shown == piped
    shown = Terminal(workplace, target, "--logger-distill-plain", warm=True).end()[1]
    assert "localrule score_responses:" in shown and "✓" not in shown
    shutil.rmtree(workplace.results / "scores" / "sft")
    code, quiet = Terminal(workplace, target, "--quiet", "all", warm=True).end()
    assert code == 0 and "score_responses" not in quiet


def test_every_finished_stage_says_in_its_last_line_what_it_did(micro_study):
    folder = micro_study.results / "logs"
    last = {path: last_lines(path.read_text().replace("\r", "\n"))[0] for path in folder.rglob("*.log")}
    rules = {path: path.relative_to(folder).with_suffix("").parts[0] for path in last}
    assert {*rules.values()} >= {"train_run", "sample_teacher", "generate_responses", "make_tables"}
    for path, line in last.items():
        assert re.fullmatch(rf"done: {rules[path]}: results/\S+: made in [^;]+ s; .+", line), line
