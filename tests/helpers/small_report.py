"""A made-up study small enough to draw and render in a second; its texts try to break out of the page."""

from itertools import combinations

from distill.config.slices.render_report import RenderReport
from distill.evaluation.statistics import Interval
from distill.records import Example
from distill.report.csv_tables import COLUMNS

HOSTILE = '</script><script>alert(1)</script><img src=x onerror=alert(2)> & "quoted" \u2028 {{ 7 * 7 }} $x <!-- \' \\'
SYSTEMS = ["teacher", "phase1", "sft", "bd", "bd.seed11"]
RECIPES = {name: name.split(".")[0] for name in SYSTEMS}
DATASETS = ["dolly", "vicuna"]
TITLES = dict.fromkeys(DATASETS, "Rouge-L")
METRICS = dict.fromkeys(DATASETS, "rouge_l")
SEEDS = {"sampled": (10, 20), "greedy": (0,)}
MEANS = {"teacher": 100.0, "phase1": 9.5, "sft": 20.25, "bd": 33.333333333333336, "bd.seed11": 10.2}
UPDATES = (2, 4)
COMPARED = [("teacher", "sft"), ("sft", "phase1"), ("bd", "phase1"), ("bd", "sft"), ("bd.seed11", "sft")]


def _rows(name: str, rows: list[dict]) -> list[dict[str, str]]:
    return [dict.fromkeys(COLUMNS[name], "") | {key: str(value) for key, value in row.items()} for row in rows]


def _difference(system: str, other: str) -> dict:
    """Returns a difference of means; one below 1 is undecided."""
    difference = MEANS[system] - MEANS[other]
    verdict = "undecided" if abs(difference) < 1 else "higher" if difference > 0 else "lower"
    return {
        "difference": difference,
        "lo": difference - 1,
        "hi": difference + 1,
        "p_adjusted": 0.02,
        "verdict": verdict,
    }


def make_tables() -> dict[str, list[dict[str, str]]]:
    """Returns the tables that figures are drawn from and a few more; the others are empty."""
    cells = [(system, dataset, decoding) for system in SYSTEMS for dataset in DATASETS for decoding in SEEDS]
    scores = [
        {"system": system, "dataset": dataset, "decoding": decoding, "mean": MEANS[system], "seeds": 2, "prompts": 8}
        | {"metric": "rouge_l", "std": "" if decoding == "greedy" else 0.5}
        | {"student": "" if system == "teacher" else "student", "method": "bd" if system.startswith("bd") else "sft"}
        for system, dataset, decoding in cells
    ]
    tested = {"prompts": 8, "metric": "rouge_l", "p_value": 0.01, "student": "student"}
    comparisons = [
        tested
        | {"system": system, "baseline": baseline, "dataset": dataset, "decoding": decoding, "tests": 3}
        | _difference(system, baseline)
        for system, baseline in COMPARED
        for dataset in DATASETS
        for decoding in SEEDS
    ]
    pairs = [
        tested
        | {"system": system, "other": other, "dataset": "dolly", "decoding": "sampled", "tests": 6}
        | _difference(system, other)
        for system, other in combinations(["bd", "sft", "phase1", "teacher"], 2)
    ]
    win_rates = [
        {"system": "bd", "opponent": opponent, "judge": HOSTILE, "dataset": "dolly", "decoding": "sampled", "seed": 10}
        | {"prompts": 8, "win_rate": 0.5, "lo": 0.25, "hi": 0.8, "wins": 0.4, "ties": 0.2, "losses": 0.4}
        for opponent in ("phase1", "sft")
    ]
    selection = [
        {"run": run, "rule": "dev_rouge_l", "update": update, "chosen": "yes" if update == 4 else "no"}
        | {"dev_loss": 3 - update / 4, "metric": "rouge_l", "dev_score": "" if run == "phase1" else 40 + update}
        for run in SYSTEMS[1:]
        for update in UPDATES
    ]
    sorted_mass = [{"k": k, "mass": 1 - 0.5 / k} for k in range(1, 51)]
    made = {"scores": scores, "win_rates": win_rates, "selection": selection, "sorted_mass": sorted_mass}
    made |= {"comparisons": comparisons, "pairs": pairs}
    return dict.fromkeys(COLUMNS, []) | {name: _rows(name, rows) for name, rows in made.items()}


def make_scores() -> dict[tuple[str, str, str], Interval]:
    """Returns scores with an interval by (system, dataset, decoding)."""
    return {
        (system, dataset, decoding): Interval(mean, mean - 2, mean + 1.5, 8, 1.0)
        for system, mean in MEANS.items()
        for dataset in DATASETS
        for decoding in SEEDS
    }


def make_logs() -> dict[str, dict[str, list[dict]]]:
    """Returns `metrics` and `dev` of each run; sft logs its entropy, and bd its share outside the sets."""
    own = {"sft": {"policy/entropy": 1.5}, "bd": {"bellman/oos_fraction": 0.07, "bellman/student_outside": 0.2}}
    metrics = {
        run: [
            {"step": step, "loss": 3 / step, "gradient_norm": 1 / step, "tokens_per_second": 900.0 + step}
            | own.get(RECIPES[run], {})
            for step in range(1, 1 + max(UPDATES))
        ]
        for run in SYSTEMS[1:]
    }
    dev = [{"step": step, "loss": 3 - step / 4} for step in (0, *UPDATES)]
    return {"metrics": metrics, "dev": dict.fromkeys(SYSTEMS[1:], dev)}


def make_examples() -> dict[str, list[Example]]:
    """Returns the sets; one of vicuna's references is hostile."""
    return {
        dataset: [
            Example.of(f"Name thing {i} of {dataset}.", "", [f"thing {i}", HOSTILE] if i == 3 else f"thing {i}", "qa")
            for i in range(50 if dataset == "dolly" else 8)
        ]
        for dataset in DATASETS
    }


def make_generations() -> dict[str, list[dict]]:
    """Returns the rows of each system's answers; phase 1 answers with markup, bd at length."""
    texts = {"phase1": HOSTILE, "bd": "word " * 1000}
    return {
        system: [
            {"id": example.id, "dataset": dataset, "seed": seed, "decoding": decoding, "finished": True}
            | {"response": texts.get(system, f"{system} on {dataset} {i}, {decoding} {seed}")}
            for dataset, examples in make_examples().items()
            for decoding, seeds in SEEDS.items()
            for seed in seeds
            for i, example in enumerate(examples)
        ]
        for system in SYSTEMS
    }


def make_settings() -> RenderReport:
    """Returns the slice of the report."""
    return RenderReport(
        title=f"A study {HOSTILE}",
        embedded=True,
        decodings={"sampled": {}, "greedy": {"temperature": 0}},
        deepspeed={},
        sampling={},
        recipes=RECIPES,
        prompts=40,
        folders={name: [f"models/{name}", f"generations/{name}"] for name in SYSTEMS},
        config={"title": HOSTILE, "runs": {"bd": {"p": 0.8}}},
        template="0" * 16,
    )


def make_verdicts() -> dict[str, list[dict]]:
    """Returns the verdicts on bd and sft on dolly: bd wins, loses, ties, wins in one order, has none, and again."""
    both = [("bd", "bd"), ("sft", "sft"), ("tie", "tie"), ("bd", "sft"), (None, None)]
    return {
        "bd-sft": [
            {"id": example.id, "winner": winner}
            for i, example in enumerate(make_examples()["dolly"])
            for winner in both[i % len(both)]
        ]
    }
