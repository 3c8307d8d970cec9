"""Judges pairs of systems on the same prompts, each prompt in both orders of presentation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from distill.config.judge import Judging
from distill.config.remote import key_of
from distill.errors import ConfigError, DataError
from distill.judging.overlap import OverlapJudge
from distill.judging.protocol import Item, Judge, Verdict, check_verdicts
from distill.metrics.text import references_of
from distill.records import clean_response


def make_judge(config: Judging, environ: Mapping[str, str], state: Path | str) -> Judge:
    """Returns the configured judge; the openai one keeps its verdicts in `state/verdicts.jsonl`.

    Args:
        config: the `judge` section, resolved by `resolve_judge`.
        environ: the environment, where the key is.
        state: folder that outlives a killed job, used by one process at a time.

    Raises:
        ConfigError: the kind is still `auto`.
        ServiceError: there is no usable key.
    """
    if config.kind == "auto":
        raise ConfigError("judge.kind: expected openai or overlap, found auto; resolve it with resolve_judge first")
    if config.kind == "overlap":
        return OverlapJudge(config)
    # The client takes half a second to import, and a study without a key need not have it.
    from distill.judging.batch_judge import BatchJudge
    from distill.judging.openai_judge import OpenAIJudge
    from distill.remote.journal import Journal

    kind = BatchJudge if config.batch else OpenAIJudge
    return kind(config, key_of(config, environ), Journal(Path(state) / "verdicts.jsonl", Verdict))


def pick_answers(generations: Sequence[Mapping], config: Judging, place: str = "generations") -> dict[str, str]:
    """Returns {example id: response} of the section's dataset, decoding and seed.

    Raises:
        DataError: there is none.
    """
    wanted = (config.dataset, config.decoding, config.seed)
    answers = {
        row["id"]: row["response"] for row in generations if (row["dataset"], row["decoding"], row["seed"]) == wanted
    }
    if not answers:
        raise DataError(
            f"{place}: expected responses to {config.dataset} ({config.decoding}, seed {config.seed}) to judge, found "
            "none; set judge.dataset, judge.decoding and judge.seed to ones that are generated"
        )
    return answers


def judge_pair(
    judge: Judge,
    system: str,
    opponent: str,
    examples: Sequence[Mapping],
    answers: Mapping[str, Mapping[str, str]],
    progress: Callable[[], object] = lambda: None,
) -> list[dict]:
    """Judges two systems on every example, first with `system` as answer A (order ab), then as answer B (ba).

    Args:
        judge: who decides.
        system: name of the first run.
        opponent: name of the second run.
        examples: the prompts to judge, already cut to the number wanted.
        answers: {run: {example id: response}} of both runs.
        progress: called after each verdict; there are two an example.

    Returns:
        Verdict rows, sorted by (id, order).

    Raises:
        DataError: there is no example, or a run has no response to one.
        ServiceError: the judge gave up, or its verdicts tell nothing.
    """
    if not examples:
        raise DataError(
            f"judge: expected prompts to judge {system} against {opponent} on, found none; check judge.dataset"
        )
    for run in (system, opponent):
        missing = [example["id"] for example in examples if example["id"] not in answers[run]]
        if missing:
            raise DataError(
                f"judge: expected a response of {run} to every judged prompt, found {len(missing)} missing, such as "
                f"{missing[0]}; generate them again"
            )
    items = []
    for example in examples:
        first, second = (clean_response(answers[run][example["id"]]) for run in (system, opponent))
        prompt = (example["instruction"], example["input"])
        references = tuple(references_of(example))
        items.append(Item(example["id"], "ab", *prompt, first, second, references))
        items.append(Item(example["id"], "ba", *prompt, second, first, references))
    verdicts = judge.judge(items, progress)
    check_verdicts(verdicts)
    rows = [_row(item, verdict, system, opponent) for item, verdict in zip(items, verdicts, strict=True)]
    return sorted(rows, key=lambda row: (row["id"], row["order"]))


def _row(item: Item, verdict: Verdict, system: str, opponent: str) -> dict:
    first, second = (system, opponent) if item.order == "ab" else (opponent, system)
    return {
        "id": item.id,
        "order": item.order,
        "system_a": first,
        "system_b": second,
        "verdict": verdict.verdict,
        "winner": {"A": first, "B": second, "Tie": "tie", None: None}[verdict.verdict],
        **asdict(verdict),
    }
