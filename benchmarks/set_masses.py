"""What trained students put outside the teacher's sets, and how far they are from the teacher inside and outside.

    .venv/bin/python benchmarks/set_masses.py results/ablations phase1 moved moved_no_chi2 bd_remainder set_only \\
        > docs/studies/ablations/set_masses.csv

Read along the teacher's samples of held-out prompts, with the sets at p = 0.8 that both models' logits give there.
"""

import csv
import sys
from pathlib import Path

import torch
from tabular import P, measures

from distill.losses.candidate_sets import top_p_sets
from distill.models.load import load_model
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences
from distill.records import read_samples

BATCH = 32


@torch.no_grad()
def main() -> None:
    """Prints a row a model: means over the tokens of the teacher's held-out samples."""
    torch.set_num_threads(1)
    results, names = Path(sys.argv[1]), sys.argv[2:]
    samples = [sample for sample in read_samples(results / "samples" / "samples.jsonl") if sample.held_out]
    pairs = [(sample.prompt_ids, sample.response_ids) for sample in samples]
    teacher, *students = [PackedModel(load_model(results / "models" / name).eval()) for name in ("teacher", *names)]
    totals: list[dict[str, float]] = [{} for _ in students]
    tokens = 0
    for start in range(0, len(pairs), BATCH):
        batch = pack_sequences(pairs[start : start + BATCH], "cpu", with_final_state=False)
        probs = teacher.states(batch).logits().double().softmax(-1)
        mask = top_p_sets(probs, P).to_mask(probs.shape[-1])
        tokens += len(probs)
        for total, student in zip(totals, students, strict=True):
            for name, values in measures(probs, student.states(batch).logits().double(), mask).items():
                total[name] = total.get(name, 0.0) + values.sum().item()
    table = csv.DictWriter(sys.stdout, ["model", "tokens", *totals[0]], lineterminator="\n")
    table.writeheader()
    for name, total in zip(names, totals, strict=True):
        table.writerow({"model": name, "tokens": tokens} | {key: f"{v / tokens:.6f}" for key, v in total.items()})


if __name__ == "__main__":
    main()
