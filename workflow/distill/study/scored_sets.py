"""The sets that a study scores, and what of their references no metric reads."""

import os
from collections.abc import Iterator
from pathlib import Path

from distill.config.judge import resolve_judge
from distill.config.keys import config_key, run_key
from distill.evaluation.selection import selecting_metric
from distill.metrics.scored_set import ScoredSet
from distill.records import read_examples
from distill.study.parts import judged_pairs, run_of
from distill.study.study import Study


def scored_sets(study: Study) -> Iterator[ScoredSet]:
    """Yields each test set with its metric, dev with those that select, and the judged set with the judge's."""
    for name, source in study.data.evaluation.items():
        yield ScoredSet(name, source.metric, f"{config_key(name)}.metric")
    selecting: dict[str, str] = {}
    for name, system in study.systems.items():
        if system.is_trained and (metric := selecting_metric(run_of(study, name).select)):
            selecting.setdefault(metric, f"{run_key(system.recipe)}.select")
    for metric, key in selecting.items():
        yield ScoredSet("dev", metric, key, "dev_")
    if judged_pairs(study) and resolve_judge(study.judge, os.environ).kind == "overlap":
        yield ScoredSet(study.judge.dataset, study.judge.metric, "judge.metric")


def describe_unread(study: Study, results: Path) -> Iterator[str]:
    """Yields a line for each set of which a metric reads less than half of the letters in the references."""
    for scored in scored_sets(study):
        path = results / "data/evaluation" / scored.dataset / "examples.jsonl"
        references = [text for example in read_examples(path) for text in example.references] if path.is_file() else []
        if line := scored.warning(references):
            yield line
