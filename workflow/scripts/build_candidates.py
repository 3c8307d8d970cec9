"""Computes the teacher's top-p candidate sets along its own samples, once for the largest p."""

from distill.config.stages.teacher import BuildCandidates
from distill.files import read_json, write_json
from distill.provenance.stage import Job, run_stage

REPORTED_P = (0.5, 0.8, 0.9, 0.95)


def build_candidates(job: Job) -> None:
    """Writes the candidate-set file and its statistics at p_max and the usual smaller p."""
    import torch

    from distill.models import RowLogits, load_model
    from distill.records import read_samples
    from distill.training.candidates import STATISTICS, build_candidate_sets, save_candidate_sets, set_statistics

    settings: BuildCandidates = job.settings
    torch.set_num_threads(settings.deepspeed.threads)
    dtype = "bfloat16" if settings.deepspeed.precision == "bf16" else "float32"
    teacher = load_model(job.input("teacher"), dtype=dtype).to(settings.deepspeed.device).eval()
    samples = read_samples(job.input("samples") / "samples.jsonl")
    pairs = [(sample.prompt_ids, sample.response_ids) for sample in samples]
    forward = RowLogits(teacher, read_json(job.input("vocabulary") / "vocabulary.json")["size"])
    device = settings.deepspeed.device
    sets, entropy, sorted_mass = build_candidate_sets(forward, pairs, settings.p_max, settings.batch, device)
    lengths = [len(response) for _, response in pairs]
    digests = {name: job.digest(name)[0] for name in ("teacher", "samples")}
    save_candidate_sets(job.output, sets, lengths, digests)
    reported = sorted({p for p in REPORTED_P if p < settings.p_max} | {settings.p_max})
    rows = [set_statistics(sets, pairs, p) for p in reported]
    statistics = {"teacher_entropy": entropy, "sorted_mass": sorted_mass, "sets": rows}
    write_json(job.output / STATISTICS, statistics)


if __name__ == "__main__":
    run_stage(build_candidates, __doc__, inputs=("teacher", "samples", "vocabulary"), settings=BuildCandidates)
