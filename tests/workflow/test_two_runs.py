"""A second run in one folder, and the same command after Snakemake itself was killed."""

import os
import select
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from distill.files import read_json
from workplace import Workplace, check_out

TARGET = "results/data/sources/vicuna/COMPLETE"
HOLD = """#!/bin/sh
[ -p held ] && echo $$ > held && read -r _ < let_go
exec python "$@"
"""


@pytest.fixture
def held(tmp_path):
    """A copy of the repository whose jobs wait, as long as the pipe `held` is there."""
    place = check_out(tmp_path / "study")
    place.configure({"environments.light.python": "./hold.sh"})
    hold = place.folder / "hold.sh"
    hold.write_text(HOLD)
    hold.chmod(0o755)
    for name in ("held", "let_go"):
        os.mkfifo(place.folder / name)
    return place


def wait_for_job(place: Workplace) -> int:
    """Returns the process id of the job once it works."""
    pipe = os.open(place.folder / "held", os.O_RDONLY | os.O_NONBLOCK)
    assert select.select([pipe], [], [], 300)[0], "no job was started"
    job = int(os.read(pipe, 100))
    os.close(pipe)
    return job


def run_of(place: Workplace) -> int:
    """Returns the process id of the one run that is named in the folder."""
    (name,) = (place.folder / ".snakemake" / "runs").iterdir()
    return read_json(name)["process"]


def last_line(result) -> str:
    return result.stdout.rstrip().splitlines()[-1]


def test_the_same_command_goes_on_after_a_kill_of_snakemake(held):
    with ThreadPoolExecutor() as pool:
        first = pool.submit(held.snakemake, TARGET)
        job, snakemake = wait_for_job(held), run_of(held)
        second = held.snakemake(TARGET)
        assert second.returncode == 1
        assert last_line(second).startswith(f"note: process {snakemake} on ") and "let it end" in last_line(second)
        assert run_of(held) == snakemake, "the second is named no longer"
        for process in (snakemake, job):
            os.kill(process, signal.SIGKILL)
        assert first.result().returncode == -signal.SIGKILL
    assert any((held.folder / ".snakemake" / "locks").iterdir()), "what the kill left"
    (held.folder / "held").unlink()
    held.run(TARGET)
    assert (held.folder / TARGET).is_file()
    assert not any((held.folder / ".snakemake" / "runs").iterdir())
