"""Two clones of a repository with one store: what the first has made the second does not make again."""

import pytest

from distill.audit.archive import Archive
from distill.audit.verify import verify
from workplace import FEW_RUNS, check_out, untimed_tables


@pytest.mark.slow
def test_a_second_clone_takes_every_stage_of_the_first(tmp_path):
    (tmp_path / "first").mkdir()
    first = check_out(tmp_path / "first")
    first.configure(FEW_RUNS | {"store": str(tmp_path / "store")})
    second = first.copy(tmp_path)
    first.run()
    second.run()
    made, taken = (Archive(place.results, place.folder) for place in (first, second))
    assert made.artifacts.keys() == taken.artifacts.keys() and len(made.artifacts) > 30
    logs = [path.read_text() for path in (second.results / "logs").rglob("*.log")]
    assert sum("fetched from the store" in log for log in logs) == len(taken.artifacts)
    for name, artifact in taken.artifacts.items():
        assert artifact.statement == made.artifacts[name].statement, f"{name}: its record tells who made it"
    assert verify(taken, None).findings == []
    cards = [(place.results / "models/sft/README.md").read_bytes() for place in (first, second)]
    assert cards[0] == cards[1], "the card of a model that came from the store"
    assert untimed_tables(second.results) == untimed_tables(first.results)
