"""One small study, run once a session, and private copies of it to change."""

import shutil
from collections.abc import Iterator

import pytest
from filelock import FileLock

from workplace import Workplace, check_out


@pytest.fixture(scope="session")
def micro_study(tmp_path_factory, worker_id) -> Workplace:
    """The small study, run from scratch once for all workers; do not change it: take `workplace`."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    place, log = Workplace(shared / "micro"), shared / "micro.log"
    with FileLock(f"{log}.lock"):
        if not log.exists():
            result = check_out(place.folder).snakemake()
            log.write_text(f"{result.returncode}\n{result.stdout}")
    code, output = log.read_text().split("\n", 1)
    assert code == "0", output[-8000:]
    return place


@pytest.fixture
def workplace(micro_study, tmp_path) -> Iterator[Workplace]:
    """A private copy of the finished small study; removed afterwards, since dozens of them are a gigabyte."""
    copy = micro_study.copy(tmp_path)
    yield copy
    shutil.rmtree(copy.folder)
