"""The compared runs of the embedded study, as they would stand in a config file.

All runs from phase 1 make as many updates on as many sequences, and those that distil have the same prompts. Learning
rates are the best of presets/tuning.yaml on dev data.
"""

_FROM_PHASE_1 = {"steps": 600, "weight_decay": 1e-6, "evaluate_every": 150}
_ALL_SAMPLES = {"start": "phase1", "samples_per_prompt": None}

EMBEDDED_RUNS = {
    "sft": {
        "method": "sft",
        "training": {"steps": 400, "learning_rate": 4e-3, "warmup_steps": 30, "evaluate_every": 100},
    },
    "sft_continued": {"method": "sft", "start": "phase1", "training": _FROM_PHASE_1 | {"learning_rate": 3e-5}},
    # The teacher's stored sets along its samples, which BD learns from too.
    "kd_sets": {
        "method": "seqkd",
        "kd_ratio": 1.0,
        "teacher": "cached",
        "training": _FROM_PHASE_1 | {"learning_rate": 1e-2},
    }
    | _ALL_SAMPLES,
    "seqkd": {"method": "seqkd", "training": _FROM_PHASE_1 | {"learning_rate": 1e-2}} | _ALL_SAMPLES,
    "minillm": {"method": "minillm", "training": _FROM_PHASE_1 | {"learning_rate": 3e-3}},
    "bd_sampled": {"method": "bd", "training": _FROM_PHASE_1 | {"learning_rate": 1e-6}},
    "bd_released": {
        "method": "bd",
        "bellman": {"objective": "released"},
        "training": _FROM_PHASE_1 | {"learning_rate": 3e-6},
    },
    "bd_remainder": {
        "method": "bd",
        "bellman": {"objective": "expected", "remainder": True},
        "plain_text_weight": 0.0,
        "training": _FROM_PHASE_1 | {"learning_rate": 1e-2},
    },
}
