"""A small campaign of kills: the tables come out the same."""

import pytest
from kills import VICTIMS, Study, campaign

from workplace import CONFIG, check_out, micro_study, untimed_tables

__all__ = ["micro_study"]


@pytest.mark.slow
def test_killed_studies_end_in_the_same_tables(micro_study, tmp_path):
    study = Study(check_out(tmp_path / "study").folder, CONFIG)
    found = [*campaign(study, len(VICTIMS), longest=25, sign=9, seed=5)]
    assert all(kill.code != 0 for kill in found if kill.victim != "stage") and len(found) == len(VICTIMS)
    assert untimed_tables(study.results) == untimed_tables(micro_study.results)
