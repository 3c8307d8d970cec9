"""All figures that need a GPU, in one command: the micro study end to end in bf16, and a phase-2 step at Qwen's shapes.

    make gpu-figures
    .venv/bin/python benchmarks/gpu.py --device cpu --shape toy --folder /tmp/trial

Study and step run in the environments of the CUDA locks; this script needs neither. It writes `phase2_step.csv`,
`study.csv` and the page `README.md`. The second line is a trial of the way there, whose figures mean nothing.
"""

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
STUDY = "tests/fixtures/micro.yaml"
RESULTS = "results/gpu"
PARTS = ("memory", "time", "repairs")
"""Of phase2_step.py; without `accuracy`, which holds a copy of both models in float64."""
SEE = """
import sys, torch
if not torch.cuda.is_available():
    sys.exit(f"torch {torch.__version__}, built for CUDA {torch.version.cuda}, sees none")
print(torch.cuda.get_device_name())
"""
SIDES, PARTS_OF_STEP = ("official", "ours", "official/ours"), ("step", "bellman", "plain text")
SHARE = "useful share of matmul speed"
MEASURES = {
    "time": "seconds an update",
    "memory above weights and gradients": "peak memory above weights and gradients, MiB",
    "useful tokens": "useful tokens a second",
    SHARE: "useful share of matmul speed",
}


def card(python: str) -> str:
    """Returns the name of the GPU that this interpreter's torch computes on.

    Raises:
        SystemExit: there is none, or no such interpreter.
    """
    try:
        seen = subprocess.run([python, "-c", SEE], capture_output=True, text=True)
    except OSError as error:
        raise SystemExit(
            f"error: {python}: expected the Python of an environment of envs/cuda-train.lock, found {error.strerror}; "
            "make it (benchmarks/gpu.md), or name it: make gpu-figures TRAIN=PYTHON"
        ) from error
    if seen.returncode:
        found = (seen.stderr.strip().splitlines() or ["nothing"])[-1]
        raise SystemExit(f"error: {python}: expected a GPU, found {found}; run this where nvidia-smi -L lists one")
    return seen.stdout.strip()


def study_config(device: str, train: str, vllm: str | None) -> dict:
    """Returns the micro study in bf16 on a device; without an interpreter that has vLLM, transformers samples."""
    environments = {"train": {"python": train, "lock": "envs/cuda-train.lock"}}
    environments["vllm"] = {"python": vllm, "lock": "envs/cuda-vllm.lock"} if vllm else environments["train"]
    small = yaml.safe_load((ROOT / STUDY).read_text())
    engine = {"device": device, "dtype": "bfloat16", "engine": "vllm" if vllm else "transformers"}
    return small | {
        "title": f"The micro study in bf16, device {device}",
        "results": RESULTS,
        "deepspeed": {"device": device, "precision": "bf16"},
        "sampling": small["sampling"] | engine,
        **({"environments": environments} if device == "cuda" else {}),
    }


def medians(table: str) -> dict[tuple[str, ...], float]:
    """Returns {(vocabulary, objective, part, measure, side): median} of what phase2_step.py printed."""
    rows = csv.DictReader(line for line in table.splitlines() if not line.startswith("#"))
    labels = ("vocabulary", "objective", "part", "measure", "side")
    return {tuple(row[label] for label in labels): float(row["p50"]) for row in rows}


def number(value: float | None) -> str:
    """Returns a figure for a table; nothing for none."""
    return "" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def page(step: str, study: str, engine: str, peak: float | None) -> str:
    """Returns the page of the figures: what phase2_step.py and study.py printed, in words and tables.

    `peak`: the card's own peak, in TFLOP/s, as its data sheet has it; without it no share of it is stated.
    """
    found = medians(step)
    by = "Written by `make gpu-figures`; how, and what was never run: [gpu.md](../gpu.md)."
    lines = ["# GPU figures", "", by, "", f"{step.splitlines()[0].removeprefix('# ')}.", ""]
    for vocabulary in dict.fromkeys(key[0] for key in found):
        speed = found[vocabulary, "both", "matmul", "speed", "both"] / 1e12
        of_peak = f", {speed / peak:.0%} of the data sheet's {peak:g}" if peak else ""
        lines += [f"## A phase-2 step, V = {int(vocabulary):,}", ""]
        lines += [f"A large matrix product runs at {speed:.3g} TFLOP/s{of_peak}.", ""]
        lines += ["| objective | part | | official | ours | official/ours |", "|---|---|---|---|---|---|"]
        for objective in dict.fromkeys(key[1] for key in found if key[1] != "both"):
            for part in PARTS_OF_STEP:
                for measure, words in MEASURES.items():
                    values = [found.get((vocabulary, objective, part, measure, side)) for side in SIDES]
                    label = f"| `{objective}` | {part} |"
                    if values[0] is None:
                        continue
                    lines.append(f"{label} {words} | {' | '.join(map(number, values))} |")
                    if peak and measure == SHARE:
                        official, ours = (number(value * speed / peak) for value in values[:2])
                        lines.append(f"{label} share of the data sheet's peak | {official} | {ours} | |")
        lines.append("")
    remarks = [line.removeprefix("# ") for line in study.splitlines() if line.startswith("#")]
    rows = [line.split(",") for line in study.splitlines() if not line.startswith("#")]
    lines += [f"## The micro study, bf16, answers by {engine}", "", *(f"- {remark}" for remark in remarks), ""]
    lines += ["| rule | jobs | CPU seconds | wall seconds |", "|---|---|---|---|"]
    lines += [f"| {row[0]} | {row[1]} | {row[2]} | {row[4]} |" for row in rows[1:]]
    return "\n".join([*lines, ""])


def run(command: list[str], output: Path | None = None) -> None:
    """Runs a command in the repository's root, its standard output into a file; all else is shown.

    Raises:
        SystemExit: it failed.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "workflow")}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE if output else None, text=True)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command)}: expected exit code 0, found {done.returncode}; see above")
    if output:
        output.write_text(done.stdout)


def main(arguments: list[str]) -> None:
    """Runs all and writes the folder of figures. A second call goes on with the study where the first one ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", default=".venv-cuda-train/bin/python", help="Python of cuda-train (default: there)")
    parser.add_argument("--vllm", help="Python of cuda-vllm; without it transformers samples")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--shape", help="of phase2_step.py (default: qwen2.5)", default="qwen2.5")
    parser.add_argument("--rounds", default="5")
    parser.add_argument("--peak", type=float, help="the card's dense bf16 peak in TFLOP/s, from its data sheet")
    parser.add_argument("--folder", type=Path, default=ROOT / "benchmarks/gpu")
    given = parser.parse_args(arguments)
    train = given.train if given.device == "cuda" else sys.executable
    print(card(train) if given.device == "cuda" else "A trial on the CPU: its figures mean nothing", file=sys.stderr)
    config = study_config(given.device, train, given.vllm)
    given.folder.mkdir(parents=True, exist_ok=True)
    place = ROOT / f"{RESULTS}.yaml"
    place.write_text(yaml.safe_dump(config, sort_keys=False))
    steps, study = given.folder / "phase2_step.csv", given.folder / "study.csv"
    run([sys.executable, "-m", "snakemake", "--cores", "all", "--configfile", str(place)])
    run([sys.executable, "benchmarks/study.py", RESULTS], study)
    options = ["--device", given.device, "--dtype", "bfloat16", "--shape", given.shape, "--rounds", given.rounds]
    run([train, "benchmarks/phase2_step.py", *options, "--parts", *PARTS], steps)
    text = page(steps.read_text(), study.read_text(), config["sampling"]["engine"], given.peak)
    (given.folder / "README.md").write_text(text)
    print(f"{given.folder}: written", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
