"""Samples one shard of the distillation corpus: several responses a prompt from the fine-tuned teacher."""

from distill.config.slices.sample_teacher import SampleTeacher
from distill.files import write_jsonl
from distill.provenance.stage import Job, run_stage


def sample_teacher(job: Job) -> None:
    """Writes samples.jsonl of every `shards`-th prompt, training prompts first, then the held-out dev prompts."""
    from distill.data.tokens import encode_file, load_tokenizer, vocabulary_size
    from distill.records import Sample
    from distill.sampling.protocol import Request
    from distill.sampling.resumable import Batch, LazyEngine, generate_blocks
    from distill.sampling.settings import engine_settings

    settings: SampleTeacher = job.settings
    tokenizer, eos_id = load_tokenizer(job.input("tokenizer"))
    train = encode_file(job.input("split") / "train.jsonl", tokenizer, settings.wrapper, eos_id)[: settings.prompts]
    dev = encode_file(job.input("dev") / "examples.jsonl", tokenizer, settings.wrapper, eos_id)
    prompts = [(example, False) for example in train]
    prompts += [(example, True) for example in dev[: settings.held_out_prompts]]
    mine = prompts[settings.shard :: settings.shards]
    requests = [Request(example.id, example.prompt_ids, settings.seed, settings.per_prompt) for example, _ in mine]
    longest = max(len(request.prompt_ids) for request in requests)
    options = engine_settings(settings.sampling, longest + settings.max_new_tokens)
    by_id = {example.id: (example.prompt_ids, held_out) for example, held_out in mine}
    batch = Batch(
        job.input("teacher"),
        requests,
        settings.temperature,
        settings.top_p,
        settings.max_new_tokens,
        folder=job.state(shard=settings.shard, inputs=job.digests, sampling=settings.sampling.model_dump()),
        size=128,
    )
    with LazyEngine(options, vocabulary_size(tokenizer)) as engine:
        generate_blocks(engine, [batch], job.share)
    if job.share.rank:
        return
    samples = (
        Sample(done.id, done.sample, by_id[done.id][0], done.token_ids, done.finished, by_id[done.id][1])
        for done in batch.completions(job.share)
    )
    write_jsonl(job.output / "samples.jsonl", (sample.to_dict() for sample in samples))
    job.notes |= {"prompts": len(mine), "samples": len(mine) * settings.per_prompt, "seed": settings.seed}


if __name__ == "__main__":
    run_stage(sample_teacher, __doc__, inputs=("teacher", "split", "dev", "tokenizer"), settings=SampleTeacher)
