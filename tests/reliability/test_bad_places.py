"""A stage on a full disk: one line, and with room the same command completes; a finished study is looked at."""

import pytest
from places import campaign, can_mount, finished_on_tmpfs, look_read_only

from workplace import micro_study, workplace

__all__ = ["micro_study", "workplace"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_mount(), reason="this process may mount no file system (needs CAP_SYS_ADMIN)"),
]


def test_a_stage_on_a_full_disk_says_so_and_completes_with_room(micro_study, tmp_path):
    with finished_on_tmpfs(micro_study, tmp_path / "study") as place:
        found = [*campaign(place, [0.0, 0.9], ["split_data"], seed=1)]
    assert [(row.code, row.says, row.again) for row in found] == [(1, True, 0)] * 2, found


def test_a_read_only_study_can_be_looked_at(workplace):
    assert look_read_only(workplace) == []
