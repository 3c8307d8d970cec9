"""What a comparison could show: parts of a variance, the smallest difference, and that the committed page is right."""

import csv
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))
import power  # noqa: E402


def write_study(folder, scores):
    """Tables of systems a and b with scores [system][training seed][sampling seed][prompt]."""
    (folder / "tables").mkdir(parents=True)
    names = {name: [f"{name}.seed{t}" if t else name for t in range(len(runs))] for name, runs in scores.items()}
    with open(folder / "tables" / "score_seeds.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["system", "dataset", "metric", "decoding", "seed", "score"])
        for name, runs in scores.items():
            for system, run in zip(names[name], runs, strict=True):
                for seed, prompts in enumerate(run):
                    table.writerow([system, "dolly", "rouge_l", "top_p_1.0", seed, prompts.mean()])
    with open(folder / "tables" / "comparisons.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["system", "baseline", "training_seed", "dataset", "metric", "decoding", "prompts", "lo", "hi"])
        for seed, (a, b) in enumerate(zip(scores["a"], scores["b"], strict=True)):
            paired = (a - b).mean(0)
            half = 1.959964 * paired.std(ddof=1) / np.sqrt(len(paired))
            row = [names["a"][seed], "b", seed, "dolly", "rouge_l", "top_p_1.0", len(paired)]
            table.writerow([*row, paired.mean() - half, paired.mean() + half])


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Standard deviations: 3 over prompts (of the difference), 8 over answers (of each system), 0.5 over trainings."""
    draw = np.random.default_rng(0)
    prompts, trained, seeds = 400, 40, 5
    lead = 3 * draw.standard_normal(prompts)

    def runs(shift):
        noise = 8 * draw.standard_normal((trained, seeds, prompts))
        return list(0.5 * draw.standard_normal((trained, 1, 1)) + shift + noise)

    folder = tmp_path_factory.mktemp("power") / "made"
    write_study(folder, {"a": runs(lead), "b": runs(0.0)})
    return folder


def test_the_parts_of_the_variance_are_found(study):
    (found,) = power.components(study)
    assert (found["prompts"], found["sampling_seeds"], found["pairs"]) == (400, 5, 40)
    assert found["sampling_variance"] == pytest.approx(2 * 8**2, rel=0.25)
    assert found["prompt_variance"] == pytest.approx(3**2, rel=0.35)
    assert found["variance"] == pytest.approx(3**2 + 2 * 8**2 / 5, rel=0.1)
    training = power.training_variances(study)
    assert [training[name] for name in "ab"] == pytest.approx([0.25, 0.25], rel=0.5)


def test_pairs_of_one_model_tell_nothing(study, tmp_path):
    """A run that keeps its start differs from it nowhere."""
    found = power.components(study)
    same = shutil.copytree(study, tmp_path / study.name)
    path = same / "tables" / "comparisons.csv"
    path.write_text(path.read_text() + "b,b,0,dolly,rouge_l,top_p_1.0,400,0.0,0.0\n")
    assert power.components(same) == found


def test_a_difference_of_that_size_is_found_four_times_in_five():
    prompt, sampling, training, (n, seeds, trained) = 9.0, 128.0, 0.1, (200, 5, 3)
    size = power.smallest_difference(prompt, sampling, training, n, seeds, trained, comparisons=4)
    draw = np.random.default_rng(1)
    rounds = 20_000
    error = (
        draw.normal(0, np.sqrt(prompt / n), rounds)
        + draw.normal(0, np.sqrt(sampling / (n * seeds)), (trained, rounds)).mean(0)
        + draw.normal(0, np.sqrt(training), (2, trained, rounds)).mean(1).sum(0)
    )
    bar = 2.4977 * np.sqrt(prompt / n + sampling / (n * seeds * trained) + 2 * training / trained)  # z at 0.05 / 8
    assert np.mean(size + error > bar) == pytest.approx(0.8, abs=0.01)
    assert size > power.smallest_difference(prompt, sampling, training, n, seeds, trained, comparisons=1)


def test_the_committed_page_is_made_from_the_committed_studies(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["power.py", str(ROOT / "docs/studies"), str(tmp_path)])
    power.main()
    committed = ROOT / "docs/studies/power"
    for path in sorted(tmp_path.iterdir()):
        assert path.read_text() == (committed / path.name).read_text(), f"{path.name}: run benchmarks/power.py again"
