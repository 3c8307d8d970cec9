"""Generates dev answers with every candidate of selection of one training run, with one engine start a process."""

from distill.config.slices.validate_run import ValidateRun
from distill.files import write_jsonl
from distill.provenance.stage import Job, run_stage


def validate_run(job: Job) -> None:
    """Writes generations.jsonl: the candidate's update and its answers, which select_checkpoint scores."""
    from distill.checkpoints import check_unpruned, checkpoint_name, read_candidates
    from distill.data.tokens import encode_file, load_tokenizer, vocabulary_size
    from distill.sampling.evaluate import answer_batch, to_generations
    from distill.sampling.resumable import LazyEngine, generate_blocks
    from distill.sampling.settings import engine_settings

    settings: ValidateRun = job.settings
    tokenizer, eos_id = load_tokenizer(job.input("tokenizer"))
    dev = job.input("dev") / "examples.jsonl"
    examples = encode_file(dev, tokenizer, settings.wrapper, eos_id)[: settings.dev_rows]
    options = engine_settings(settings.sampling, max(len(e.prompt_ids) for e in examples) + settings.max_new_tokens)
    candidates = read_candidates(job.input("run"), job.optional_input("start"))
    for folder in candidates.values():
        check_unpruned(folder)
    state = job.state(inputs=job.digests, sampling=settings.sampling.model_dump())
    decoding, seed, length = settings.decoding, settings.dev_seed, settings.max_new_tokens
    batches = {
        update: answer_batch(folder, examples, decoding, seed, length, state / checkpoint_name(update))
        for update, folder in candidates.items()
    }
    with LazyEngine(options, vocabulary_size(tokenizer)) as engine:
        generate_blocks(engine, batches.values(), job.share)
    if job.share.rank:
        return
    rows = (
        {"update": update, **answer.to_dict()}
        for update, batch in batches.items()
        for answer in to_generations(batch.completions(job.share), examples, "dev", seed, "primary", tokenizer)
    )
    write_jsonl(job.output / "generations.jsonl", rows)
    job.notes |= {"split": "dev", "rows": len(examples), "seed": settings.dev_seed}


if __name__ == "__main__":
    run_stage(validate_run, __doc__, inputs=("start", "run", "dev", "tokenizer"), settings=ValidateRun)
