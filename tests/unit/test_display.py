"""The display's reading of a stage's log: how far it is, what it did, and never an error on half a line."""

import io
import os
import signal
import sys
import threading
from itertools import pairwise
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent
from tqdm import tqdm

from distill.progress import Progress
from distill.stopping import Stopped
from snakemake_logger_plugin_distill.display import Bar, Display, find_bar, find_words
from terminal import rendered


def test_a_bar_of_tqdm_is_read_as_it_is_written(tmp_path):
    with open(tmp_path / "log", "w+") as log:
        with tqdm(total=1200, file=log, unit="update", desc="sft") as bar:
            bar.set_postfix_str("loss 1.25, 48,953 tokens/s", refresh=False)
            bar.update(300)
            bar.refresh()
        log.seek(0)
        found = find_bar(log.read())
    assert (found.done, found.total, found.more) == (300, 1200, "loss 1.25, 48,953 tokens/s")
    assert found.speed.endswith(" update/s") and ":" in found.left


def test_a_bar_moves_each_second_at_first_and_each_ten_at_last():
    written = io.StringIO()
    with Progress(total=3600, file=written, unit="update") as bar:
        began, moved = bar.start_t, []
        for second in range(1, 3601):
            bar._time = lambda now=began + second: now
            before = written.tell()
            bar.update()
            moved += [second] * (written.tell() > before)
    assert moved[:20] == [*range(1, 21)]
    assert {later - earlier for earlier, later in pairwise(moved) if earlier > 200} == {10}
    assert len(moved) < 3600 / 10 + 60


LINE = "sft:  25%|##5   | 3/12 [00:03<00:09, 1.01update/s, loss 2]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LINE, Bar(3, 12, "00:09", "1.01 update/s", "loss 2")),
        (f"{LINE}\rsft:  50%|##### | 6/12 [00:06<00:0", Bar(3, 12, "00:09", "1.01 update/s", "loss 2")),
        ("0/12 [00:00<?, ?answer/s]", Bar(0, 12, "?", "? answer/s", "")),
        ("1/12 [00:09<01:39, 9.02s/answer]", Bar(1, 12, "01:39", "9.02 s/answer", "")),
        ("Loading shards: 1/1 [00:00<00:00, 42.59it/s]\n1/9 [00:09<01:39, 9.02s/it]", None),
        ("", None),
    ],
    ids=["whole", "half a line", "at its start", "slow", "of a library", "nothing"],
)
def test_the_last_whole_bar_counts(text, expected):
    assert find_bar(text) == expected


def test_words_are_notes_and_what_the_stage_did():
    text = f"{LINE}\nwarning: store s3://x: gone\nnoise\ndone: train_run: results/training/sft: made in 1.0 s\n"
    words = ["warning: store s3://x: gone", "results/training/sft: made in 1.0 s"]
    assert find_words(text, "train_run") == words
    assert find_words("noise\n", "train_run") == []


def test_a_log_of_an_earlier_try_shows_nothing(tmp_path):
    log = tmp_path / "sft.log"
    log.write_text(LINE)
    os.utime(log, (1e9, 1e9))
    own = {"rule_name": "train_run", "wildcards": {"system": "sft"}, "log": [str(log)]}
    for touched in (False, True):
        display = Display(3, nocolor=True)
        display.show(SimpleNamespace(event=LogEvent.JOB_INFO, jobid=1, levelno=20, **own))
        if touched:
            log.touch()
        job = display._jobs[1]
        display.stop()
        assert bool(find_bar(job.text())) is touched


@pytest.mark.parametrize(("words", "mark"), [(Stopped(signal.SIGINT), "■"), ("a.jsonl:1: bad", "✗")])
def test_a_job_that_ctrl_c_stopped_has_not_failed(tmp_path, monkeypatch, words, mark):
    """Also where Snakemake itself has not heard of it, or not yet."""
    monkeypatch.setattr("sys.stderr", stream := io.StringIO())
    display = Display(1, nocolor=True)
    own = {"rule_name": "train_run", "jobid": 1, "log": [str(log := tmp_path / "sft.log")], "levelno": 20}
    display.show(SimpleNamespace(event=LogEvent.JOB_INFO, wildcards={"system": "sft"}, **own))
    log.write_text(f"error: train_run: {words}\n")
    display.show(SimpleNamespace(event=LogEvent.JOB_ERROR, **own))
    display.stop()
    assert f"{mark} train_run sft (log: {log})" in stream.getvalue().replace("\n", "")


def test_lines_of_several_threads_leave_no_piece_of_the_moving_part(tmp_path, monkeypatch):
    """Also where a row is wider than the terminal, and where somebody prints past the display."""
    monkeypatch.setattr("sys.stderr", stream := io.StringIO())
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    for name, value in {"TERM": "xterm", "COLUMNS": "60", "LINES": "20"}.items():
        monkeypatch.setenv(name, value)
    (log := tmp_path / "sft.log").write_text(f"{LINE[:-1]}, 48,953 tokens/s, and more words than there is room for]")
    display = Display(40, nocolor=True)
    own = {"rule_name": "train_run", "wildcards": {"system": "sft"}, "log": [str(log)], "levelno": 20}

    def work(first):
        for number in range(first, first + 20):
            display.show(SimpleNamespace(event=LogEvent.JOB_INFO, jobid=number, **own))
            display._jobs[number].bar = find_bar(log.read_text())
            print(f"beside {number}", file=sys.stderr)
            display.show(SimpleNamespace(event=LogEvent.JOB_FINISHED, job_id=number))

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    display.stop()
    lines = rendered(stream.getvalue()).rstrip().splitlines()
    assert lines[-1].startswith("0 of 40 jobs done")
    assert {line.split()[0] for line in lines[:-1]} == {"✓", "beside"}
    assert len(lines) == 81 and max(map(len, lines)) <= 60
