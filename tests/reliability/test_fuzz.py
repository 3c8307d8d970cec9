"""A small campaign of odd bytes: each reader returns a result or one line of the project's own."""

import pytest
from fuzz import Readers, Tried, try_out

EXAMPLES = {"config": 40, "config_file": 40, "model_folder": 60}
"""Of those that cost most; the others get more."""


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    return Readers(tmp_path_factory.mktemp("fuzz")).targets()


@pytest.mark.parametrize(
    "name",
    [
        "candidate_sets",
        "config",
        "config_file",
        "documents",
        "journal_of_verdicts",
        "judge_replies",
        "manifests",
        "model_folder",
        "preference_pairs",
        "records",
        "records_of_fixed_length",
        "rows_of_the_study",
        "samples_from_outside",
        "source_rows",
    ],
)
def test_whatever_is_read_ends_in_a_result_or_one_line(targets, name):
    tried = Tried()
    try_out(targets[name], tried, EXAMPLES.get(name, 80))
    assert tried.examples >= EXAMPLES.get(name, 80) and tried.read > 0


def test_each_target_has_its_test(targets):
    named = test_whatever_is_read_ends_in_a_result_or_one_line.pytestmark[0].args[1]
    assert named == sorted(targets)
