"""Judges one pair of systems on the same prompts, each prompt in both orders of presentation.

--generations takes the folders of both systems, in the pair's order.
"""

import os

from distill.config.slices.judge_pair import JudgePair
from distill.errors import DataError
from distill.evaluation.win_rate import win_rate_of
from distill.files import read_jsonl, write_json, write_jsonl
from distill.judging import judge_pairs
from distill.progress import Progress
from distill.provenance.stage import Job, run_stage


def judge_pair(job: Job) -> None:
    """Writes verdicts.jsonl, raw replies kept, and win_rate.json with its interval, the judge and what was spent."""
    settings: JudgePair = job.settings
    judge, pair, folders = settings.judge, settings.pair, job.inputs["generations"]
    if [folder.name for folder in folders] != list(pair):
        raise DataError(
            f"--generations: expected the folders of {pair[0]} and {pair[1]} in this order, found "
            f"{', '.join(map(str, folders)) or 'none'}; pass them in the pair's order"
        )
    dataset = job.input("dataset")
    examples = [row for _, row in read_jsonl(dataset / "examples.jsonl")][: judge.prompts]
    answers = {}
    for system, folder in zip(pair, folders, strict=True):
        path = folder / "generations.jsonl"
        rows = [row for _, row in read_jsonl(path)]
        answers[system] = judge_pairs.pick_answers(rows, judge, str(path))
    # Finished verdicts are kept by their whole request; more prompts or another cap find them again.
    asked = judge.model_dump(include={"kind", "base_url", "model", "wording", "unparsable_retries"})
    state = job.state(judge=asked, pair=pair, generations=job.digest("generations"), dataset=job.digest("dataset"))
    with Progress(total=2 * len(examples), desc=f"{pair[0]} against {pair[1]}", unit="verdict") as progress:
        maker = judge_pairs.make_judge(judge, os.environ, state)
        verdicts = judge_pairs.judge_pair(maker, *pair, examples, answers, progress.update)
    write_jsonl(job.output / "verdicts.jsonl", verdicts)
    result = win_rate_of(settings, verdicts, maker.spent_usd)
    write_json(job.output / "win_rate.json", result)
    job.notes |= {"judge": result["judge"], "verdicts": len(verdicts), "spent_usd": result["spent_usd"]}


if __name__ == "__main__":
    run_stage(judge_pair, __doc__, inputs=("generations", "dataset"), settings=JudgePair)
