"""Scores a run's checkpoints on dev from their answers there."""

from collections import defaultdict
from pathlib import Path
from statistics import fmean

from distill.files import read_jsonl
from distill.metrics.registry import load_metric
from distill.metrics.scored_set import ScoredSet
from distill.records import read_examples


def check_references(dev: Path, metric: str, run: str) -> None:
    """Refuses a metric that tells no dev answer from another, and prints where it reads less than half of the letters.

    Args:
        dev: folder of the dev set.
        metric: the metric's name.
        run: whose checkpoint is to be selected.

    Raises:
        DataError: every reference scores 0 against itself.
    """
    references = [text for example in read_examples(dev / "examples.jsonl") for text in example.references]
    ScoredSet("dev", metric, f"select of {run}", "dev_").check(references)


def score_checkpoints(validation: Path, dev: Path, metric: str) -> dict[int, float]:
    """Returns {update: mean score of that checkpoint's dev answers}.

    Args:
        validation: folder of the answers, as validate_run writes it.
        dev: folder of the dev set.
        metric: the metric's name.
    """
    score = load_metric(metric).of
    references = {example.id: example.references for example in read_examples(dev / "examples.jsonl")}
    scores = defaultdict(list)
    for _, row in read_jsonl(validation / "generations.jsonl"):
        scores[row["update"]].append(score(row["response"], references[row["id"]], row["finished"]))
    return {update: fmean(values) for update, values in scores.items()}
