"""Computes the teacher's top-p candidate sets along one shard of its own samples, once for the largest p."""

from distill.config.slices.build_candidates import BuildCandidates
from distill.files import link_or_copy, read_json, read_jsonl, write_json
from distill.progress import Progress
from distill.provenance.stage import Job, run_stage
from distill.startup import starting

REPORTED_P = (0.5, 0.8, 0.9, 0.95)


def build_candidates(job: Job) -> None:
    """Writes the shard's candidate sets and their counts at p_max and the usual smaller p."""
    from itertools import islice

    with starting():
        import torch

        from distill.candidates.statistics import STATISTICS, add_statistics
        from distill.candidates.store import build_candidate_sets, read_statistics, shard_range
        from distill.models.load import load_model
        from distill.models.packed import PackedModel

    settings: BuildCandidates = job.settings
    torch.set_num_threads(settings.deepspeed.threads)
    path, device = job.input("samples") / "samples.jsonl", settings.deepspeed.device
    mine = shard_range(sum(1 for _ in read_jsonl(path)), settings.batch, settings.shard, settings.shards)
    samples = (row for _, row in islice(read_jsonl(path), mine.start, mine.stop))
    dtype = "bfloat16" if settings.deepspeed.precision == "bf16" else "float32"
    tokens = read_json(job.input("vocabulary") / "vocabulary.json")["size"]
    teacher = PackedModel(load_model(job.input("teacher"), dtype), tokens).to(device).eval()
    state = job.state(settings=settings.model_dump(), inputs=job.digests)
    with Progress(total=len(mine), desc=f"shard {settings.shard}", unit="sample") as progress:
        parts = build_candidate_sets(
            teacher,
            ((sample["prompt_ids"], sample["response_ids"]) for sample in samples),
            state,
            p_max=settings.p_max,
            reported=sorted({p for p in REPORTED_P if p < settings.p_max} | {settings.p_max}),
            batch=settings.batch,
            device=device,
            metadata={name: job.digest(name)[0] for name in ("teacher", "samples")},
            progress=progress.update,
            share=job.share,
        )
    if job.share.rank:
        return
    for part in parts:
        job.share.wait_for(part)
        link_or_copy(part, job.output / part.name)
    write_json(job.output / STATISTICS, add_statistics(map(read_statistics, parts)))
    job.notes |= {"samples": len(mine)}
    job.spent.append(state)


if __name__ == "__main__":
    run_stage(build_candidates, __doc__, inputs=("teacher", "samples", "vocabulary"), settings=BuildCandidates)
