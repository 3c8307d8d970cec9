"""Scores both sides of every test pair with one system: which one does the model find likelier?"""

from distill.config.slices.rank_pairs import RankPairs
from distill.files import read_json, write_jsonl
from distill.provenance.stage import Job, run_stage
from distill.startup import starting


def rank_pairs(job: Job) -> None:
    """Writes rankings.jsonl: {id, grade, chosen, rejected}, log-probabilities of the whole responses, EOS included."""
    with starting():
        import torch

        from distill.data.pairs import TEST, encode_pair
        from distill.data.tokens import load_tokenizer
        from distill.models.load import load_model
        from distill.models.packed import PackedModel
        from distill.models.responses import response_log_probs
        from distill.records import read_pairs

    settings: RankPairs = job.settings
    torch.set_num_threads(settings.deepspeed.threads)
    tokenizer, eos_id = load_tokenizer(job.input("tokenizer"))
    pairs = read_pairs(job.input("pairs") / f"{TEST}.jsonl")
    encoded = [encode_pair(tokenizer, settings.wrapper, pair, eos_id) for pair in pairs]
    dtype, device = "bfloat16" if settings.deepspeed.precision == "bf16" else "float32", settings.deepspeed.device
    vocabulary = read_json(job.input("vocabulary") / "vocabulary.json")["size"]
    packed = PackedModel(load_model(job.input("model"), dtype), vocabulary).to(device).eval()
    sides = [side for pair in encoded for side in pair.sides]
    sums = [own.sum().item() for own in response_log_probs(packed, sides, 2 * settings.batch, device)]
    rows = [
        {"id": pair.id, "grade": pair.grade, "chosen": chosen, "rejected": rejected}
        for pair, chosen, rejected in zip(pairs, sums[::2], sums[1::2], strict=True)
    ]
    write_jsonl(job.output / "rankings.jsonl", rows)
    right = sum(chosen > rejected for chosen, rejected in zip(sums[::2], sums[1::2], strict=True))
    job.notes |= {"pairs": len(rows), "right": right}


if __name__ == "__main__":
    run_stage(rank_pairs, __doc__, inputs=("model", "pairs", "vocabulary", "tokenizer"), settings=RankPairs)
