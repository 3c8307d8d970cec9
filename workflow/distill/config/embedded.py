"""The compared runs of the embedded study, as they would stand in a config file."""

_PHASE_2 = {"steps": 200, "batch": 64, "micro_batch": 64, "weight_decay": 1e-6, "evaluate_every": 50}
_FROM_BASE = {"steps": 400, "learning_rate": 4e-3, "warmup_steps": 30, "evaluate_every": 100}

EMBEDDED_RUNS = {
    "sft": {"method": "sft", "training": _FROM_BASE},
    "sft_continued": {
        "method": "sft",
        "start": "phase1",
        "updates_of": "bd_sampled",
        "training": _PHASE_2 | {"learning_rate": 1e-4},
    },
    "kd": {"method": "kd", "training": _FROM_BASE},
    # All samples, so that it learns from the same responses as BD.
    "seqkd": {"method": "seqkd", "samples_per_prompt": None, "training": _FROM_BASE},
    "minillm": {"method": "minillm", "training": _PHASE_2 | {"learning_rate": 1e-4}},
    "bd_sampled": {"method": "bd", "training": _PHASE_2 | {"learning_rate": 1e-4}},
    "bd_released": {
        "method": "bd",
        "bellman": {"objective": "released", "reduction": "sequence"},
        "training": _PHASE_2 | {"learning_rate": 1e-4},
    },
}
