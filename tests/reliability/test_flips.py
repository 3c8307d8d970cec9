"""A small campaign of damages: no damaged byte of saved work is used, and none stops a stage for good."""

import pytest
from flips import ALLOWED, FRAME, PIECES, campaign

KINDS = (
    *("minillm", "distillm", "bd in two processes", "base", "settings in a file", "published"),
    *("values", "candidate sets", "answers", "dev answers", "verdicts", "verdicts of batches"),
)
SEED, DAMAGES = 3, 20


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return [*campaign(tmp_path_factory.mktemp("flips"), SEED, range(DAMAGES), KINDS)]


def test_damaged_work_ends_in_the_same_bytes_or_in_a_line_that_helps(found):
    assert [own for own in found if own.outcome not in ALLOWED] == []


def test_the_sample_meets_every_kind_and_most_pieces(found):
    assert {own.kind for own in found} == set(KINDS)
    assert len({own.piece for own in found} - set(FRAME)) > len(PIECES) // 2
