"""Computes the preference teacher's soft values along both sides of the training pairs, one number a state."""

from distill.config.slices.build_values import BuildValues
from distill.files import link_or_copy, read_json
from distill.progress import Progress
from distill.provenance.stage import Job, run_stage
from distill.startup import starting


def build_values(job: Job) -> None:
    """Writes the values in files of a few pairs each."""
    with starting():
        import torch

        from distill.candidates import values
        from distill.data.pairs import TRAIN, encode_pairs
        from distill.data.tokens import load_tokenizer
        from distill.models.load import load_model
        from distill.models.packed import PackedModel

    settings: BuildValues = job.settings
    torch.set_num_threads(settings.deepspeed.threads)
    tokenizer, eos_id = load_tokenizer(job.input("tokenizer"))
    pairs = encode_pairs(job.input("pairs") / f"{TRAIN}.jsonl", tokenizer, settings.wrapper, eos_id)
    dtype, device = "bfloat16" if settings.deepspeed.precision == "bf16" else "float32", settings.deepspeed.device
    vocabulary = read_json(job.input("vocabulary") / "vocabulary.json")["size"]
    teacher = PackedModel(load_model(job.input("teacher"), dtype), vocabulary).to(device).eval()
    state = job.state(settings=settings.model_dump(), inputs=job.digests)
    with Progress(total=len(pairs), desc="values", unit="pair") as progress:
        parts = values.build_values(
            teacher,
            pairs,
            state,
            exponent=settings.exponent,
            scale=settings.scale,
            batch=settings.batch,
            device=device,
            metadata={name: job.digest(name)[0] for name in ("teacher", "pairs")},
            progress=progress.update,
            share=job.share,
        )
    if job.share.rank:
        return
    for part in parts:
        job.share.wait_for(part)
        link_or_copy(part, job.output / part.name)
    job.notes |= {"pairs": len(pairs)}
    job.spent.append(state)


if __name__ == "__main__":
    names = ("teacher", "pairs", "vocabulary", "tokenizer")
    run_stage(build_values, __doc__, inputs=names, settings=BuildValues)
