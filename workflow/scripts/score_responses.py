"""Scores one model's responses: each set's metric, exact match, lengths and diversity, by seed and by prompt."""

from distill.config.keys import config_key
from distill.config.slices.score_responses import ScoreResponses
from distill.evaluation.scoring import score_generations
from distill.files import read_jsonl, write_jsonl
from distill.metrics.scored_set import ScoredSet
from distill.metrics.text import references_of
from distill.provenance.stage import Job, run_stage


def score_responses(job: Job) -> None:
    """Writes seeds.jsonl and prompts.jsonl: a row a dataset, decoding and seed, or prompt."""
    path = job.input("generations") / "generations.jsonl"
    examples = {
        folder.name: [row for _, row in read_jsonl(folder / "examples.jsonl")] for folder in job.inputs["datasets"]
    }
    for name, metric in job.settings.metrics.items():
        references = [text for row in examples[name] for text in references_of(row)]
        if line := ScoredSet(name, metric, f"{config_key(name)}.metric").warning(references):
            print(line)
    rows = (row for _, row in read_jsonl(path))
    scores = score_generations(rows, examples, job.settings.metrics, str(path))
    write_jsonl(job.output / "seeds.jsonl", scores.seeds)
    write_jsonl(job.output / "prompts.jsonl", scores.prompts)
    job.notes |= {"system": job.settings.system, "prompts": {name: len(rows) for name, rows in examples.items()}}


if __name__ == "__main__":
    run_stage(score_responses, __doc__, inputs=("generations", "datasets"), settings=ScoreResponses)
