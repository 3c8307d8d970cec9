"""Generates one model's answers to every evaluation set, decoding and seed, with one engine start a process."""

from distill.config.slices.generate_responses import GenerateResponses
from distill.files import read_json, write_json, write_jsonl
from distill.provenance.stage import Job, run_stage


def generate_responses(job: Job) -> None:
    """Writes generations.jsonl, and entropy.json: by set the mean entropy (nats) of the primary decoding."""
    from distill.data.tokens import encode_file, load_tokenizer, vocabulary_size
    from distill.sampling.evaluate import answer_batch, to_generations
    from distill.sampling.resumable import LazyEngine, generate_blocks
    from distill.sampling.settings import engine_settings

    settings: GenerateResponses = job.settings
    tokenizer, eos_id = load_tokenizer(job.input("tokenizer"))
    sets = {
        folder.name: encode_file(folder / "examples.jsonl", tokenizer, settings.wrapper, eos_id)
        for folder in job.inputs["datasets"]
    }
    longest = max(
        len(example.prompt_ids) + settings.max_new_tokens[name]
        for name, examples in sets.items()
        for example in examples
    )
    options = engine_settings(settings.sampling, longest)
    state = job.state(model=job.digest("model"), sampling=settings.sampling.model_dump())
    batches = {
        (dataset, name, seed): answer_batch(
            job.input("model"), examples, decoding, seed, settings.max_new_tokens[dataset], state
        )
        for dataset, examples in sets.items()
        for name, decoding in settings.decodings.items()
        for seed in (settings.seeds if decoding.temperature > 0 else settings.seeds[:1])
    }
    with LazyEngine(options, vocabulary_size(tokenizer)) as engine:
        generate_blocks(engine, batches.values(), job.share)
    if job.share.rank:
        return
    rows = (
        row.to_dict()
        for (dataset, name, seed), batch in batches.items()
        for row in to_generations(batch.completions(job.share), sets[dataset], dataset, seed, name, tokenizer)
    )
    write_jsonl(job.output / "generations.jsonl", rows)
    own = {name: [*batches[name, settings.primary, settings.seeds[0]].completions(job.share)] for name in sets}
    write_json(job.output / "entropy.json", {name: _entropy(job, state, sets[name], own[name]) for name in own})
    answers = sum(len(batch.requests) for batch in batches.values())
    job.notes |= {"answers": answers, "seeds": settings.seeds}


def _entropy(job: Job, state, examples, completions) -> float:
    """Measures the entropy along the answers, or finds it measured before a kill."""
    from distill.files import digest_value
    from distill.sealed_files import is_sealed, seal_file

    pairs = [(e.prompt_ids, done.token_ids) for e, done in zip(examples, completions, strict=True)]
    path = state / f"entropy-{digest_value(pairs)[:24]}.json"
    if not is_sealed(path):
        from distill.sampling.entropy import mean_entropy

        sampling = job.settings.sampling
        write_json(path, mean_entropy(job.input("model"), pairs, sampling.device, sampling.threads))
        seal_file(path)
    return read_json(path)


if __name__ == "__main__":
    run_stage(generate_responses, __doc__, inputs=("model", "datasets", "tokenizer"), settings=GenerateResponses)
