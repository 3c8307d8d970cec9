"""The processes of one group: their environment, their end, signals, and the last line."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

WORKFLOW = Path(__file__).parents[2] / "workflow"
WAITS = """
import os, signal, sys
def stop(number, frame):
    print(f"error: work: stopped by {signal.Signals(number).name}; saved", file=sys.stderr)
    sys.exit(128 + number)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, stop)
os.write(1, b"ready %d\\n" % os.getpid())
while True:
    signal.pause()
"""


def start(tmp_path, text, processes=2, **pipes):
    script = tmp_path / "work.py"
    script.write_text(text)
    command = [sys.executable, "-m", "distill.launch", str(processes), sys.executable, "-S", str(script)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | pipes
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(WORKFLOW)}, **pipes)


def last_line(text):
    return text.rstrip().splitlines()[-1]


def test_each_process_finds_its_place_and_the_common_meeting(tmp_path):
    names = "RANK", "LOCAL_RANK", "WORLD_SIZE", "DISTILL_MEETING"
    text = f"import os; os.write(1, (' '.join(os.environ[name] for name in {names}) + '\\n').encode())"
    process = start(tmp_path, text, 3)
    said, _ = process.communicate()
    rows = sorted(line.split() for line in said.splitlines())
    assert [row[:3] for row in rows] == [[str(rank), str(rank), "3"] for rank in range(3)] and process.returncode == 0
    (meeting,) = {row[3] for row in rows}
    assert not Path(meeting).parent.exists()


def test_each_process_may_have_devices_of_its_own(tmp_path):
    script = tmp_path / "work.py"
    script.write_text("import os; os.write(1, (os.environ['CUDA_VISIBLE_DEVICES'] + '\\n').encode())")
    given = {"PYTHONPATH": str(WORKFLOW), "CUDA_VISIBLE_DEVICES": "5,3,8,1", "DISTILL_LEASES": str(tmp_path / "locks")}
    for gpus in (["--gpus", "4"], []):  # leased, or given by a scheduler
        command = [sys.executable, "-m", "distill.launch", *gpus, "--own-gpus", "2", "2", sys.executable, "-S", script]
        done = subprocess.run(command, env=os.environ | given, capture_output=True, text=True, check=True)
        found = sorted(done.stdout.split())
        assert [len(own.split(",")) for own in found] == [2, 2] and {*",".join(found).split(",")} == {*"5381"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_request_to_stop_reaches_all_and_the_last_line_is_theirs(tmp_path, number):
    process = start(tmp_path, WAITS)
    assert [process.stdout.readline().split()[0] for _ in range(2)] == ["ready", "ready"]
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == 128 + number
    assert said.splitlines() == [f"error: work: stopped by {number.name}; saved"] * 2


def test_the_end_of_the_first_that_fails_is_the_end_of_all(tmp_path):
    """The other is stopped, and what it says of that does not hide the reason."""
    os.mkfifo(go := tmp_path / "go")
    fails = f"""
import os, sys
if os.environ["RANK"] == "1":
    open({str(go)!r}).read()
    print("error: work: row 7 is none", file=sys.stderr)
    sys.exit(2)
"""
    process = start(tmp_path, fails + WAITS)
    process.stdout.readline()
    go.write_text("")
    _, said = process.communicate()
    assert process.returncode == 2 and "stopped by SIGTERM" in said
    assert last_line(said) == "error: work: row 7 is none"


def test_a_process_that_is_killed_is_named(tmp_path):
    process = start(tmp_path, WAITS)
    numbers = [int(process.stdout.readline().split()[1]) for _ in range(2)]
    os.kill(numbers[0], signal.SIGKILL)
    _, said = process.communicate()
    assert process.returncode == 137
    assert last_line(said) in {f"error: work: process {rank} of 2 ended by SIGKILL; rerun" for rank in (0, 1)}


def test_a_log_on_a_full_disk_holds_nobody_up(tmp_path):
    """A process that says more than a pipe holds."""
    with open("/dev/full", "w") as full:
        process = start(
            tmp_path, "import os, sys; sys.stderr.write('x\\n' * 10**5); os.write(1, b'done\\n')", 1, stderr=full
        )
    try:
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert said == "done\n"


def test_a_request_before_a_process_listens_ends_in_the_line_too(tmp_path):
    process = start(tmp_path, "import os, signal; os.write(1, b'ready\\n'); signal.pause()")
    for _ in range(2):
        process.stdout.readline()
    process.terminate()
    _, said = process.communicate()
    assert process.returncode == 143
    assert last_line(said).startswith("error: work: stopped by SIGTERM; ")


def test_no_process_outlives_the_one_that_started_it(tmp_path):
    process = start(tmp_path, WAITS)
    children = [os.pidfd_open(int(process.stdout.readline().split()[1])) for _ in range(2)]
    process.kill()
    process.wait()
    for child in children:
        assert select.select([child], [], [], 30)[0], "it lives"
        os.close(child)
    process.communicate()
