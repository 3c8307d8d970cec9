"""A small campaign of kills among jobs that share GPUs: no device is ever used by two."""

from collections import Counter

import pytest
from lease import VICTIMS, campaign


@pytest.mark.slow
def test_jobs_never_share_a_device_whoever_is_killed():
    found = sum(map(Counter, campaign(50, seed=7, at_once=2)), Counter())
    assert all(found[victim] for victim in VICTIMS) and found["worker lived on"] >= 25
