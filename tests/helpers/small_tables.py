"""The settings of the tables of a study with further students, training seeds and options, and made-up scores."""

from collections.abc import Callable, Mapping
from typing import Any

from distill.config.slices.make_tables import MakeTables
from distill.study.load import load_study
from distill.study.stages import slice_of

_TRAINING = {"steps": 4, "batch": 16, "micro_batch": 16, "learning_rate": 1e-3}
_SCRATCH = {"kind": "scratch", "hidden_size": 32, "layers": 1, "heads": 1}
RUNS = {
    "sft": {"method": "sft", "training": _TRAINING},
    "sft_continued": {"method": "sft", "start": "phase1", "training": _TRAINING},
    "kd": {"method": "kd", "training": _TRAINING},
    "seqkd": {"method": "seqkd", "training": _TRAINING},
    "minillm": {"method": "minillm", "prompts_per_round": 16, "training": _TRAINING},
}
STUDENT = {"model": _SCRATCH | {"pretraining": {"steps": 2, "learning_rate": 1e-3, "evaluate_every": 2}}}
PROMPTS = 20


def bd(steps: int = 4, run: Mapping[str, Any] | None = None, **bellman: Any) -> dict[str, Any]:
    """Returns a bd run with options of the objective, and of the run itself."""
    return {"method": "bd", "bellman": bellman, "training": _TRAINING | {"steps": steps}, **(run or {})}


def make_settings(runs: Mapping[str, Any], **config: Any) -> MakeTables:
    """Returns the slice of a study with these runs; its sets are those of the embedded study."""
    decodings = {"sampled": {}, "narrow": {"top_p": 0.8}, "greedy": {"temperature": 0}}
    given = {"runs": runs, "generation": {"decodings": decodings}, "judge": {"decoding": "sampled"}, **config}
    return slice_of(load_study(given), "make_tables")


def make_scores(
    settings: MakeTables, mean: Callable[[str, str, str], float], spread: float = 0.0
) -> dict[tuple[str, str, str], dict[str, float]]:
    """Returns scores by prompt of every cell: `mean` of system, set and decoding, `spread` more or less by turns."""
    return {
        (system, dataset, decoding): {
            f"p{i}": i + mean(system, dataset, decoding) + (spread if i % 2 else -spread) for i in range(PROMPTS)
        }
        for system in settings.systems
        for dataset in settings.datasets
        for decoding in settings.decodings
    }


def make_cells(settings: MakeTables, mean: Callable[[str, str, str], float]) -> dict[tuple[str, str, str], list[dict]]:
    """Returns the rows of two sampling seeds of every cell, one above and one below `mean`; greedy has one."""
    quality = {"mean_tokens": 12.0, "finished": 0.5, "distinct_1": 0.25, "distinct_2": 0.75, "exact_match": 10.0}
    return {
        (system, dataset, decoding): [
            {"seed": seed, "score": mean(system, dataset, decoding) + step, **quality, "n": PROMPTS}
            for seed, step in (((10, 0.0),) if decoding == "greedy" else ((10, -1.0), (20, 1.0)))
        ]
        for system in settings.systems
        for dataset in settings.datasets
        for decoding in settings.decodings
    }
