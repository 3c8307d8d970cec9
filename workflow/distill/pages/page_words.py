"""The words around the report's figures and above its tables; an edit here makes the report again and nothing else."""

FIGURES = {
    "scores": (
        "{scores} by system and decoding",
        "The numbers are in the table {scores}.",
        "Mean over prompts with its 95% bootstrap interval over prompts, a prompt's seeds averaged first. The systems "
        "answer the same prompts, so overlapping intervals do not settle a comparison: the table of comparisons does. "
        "Compare within one decoding (one colour). The axes do not start at 0.",
    ),
    "figure2": (
        "Win rates",
        "The numbers are in the table of win rates.",
        "Left: shares of all verdicts, both orders of presentation. Right: "
        "the win rate, a tie counting one half, with its 95% bootstrap interval over prompts.",
    ),
    "figure1": (
        "The teacher's sorted token mass",
        "The numbers are in the table of sorted token mass.",
        "How much of the teacher's next-token mass its k most probable tokens hold, mean over the states of its own "
        "samples.",
    ),
    "dev_scores": (
        "Dev {dev} by update",
        "The numbers are in the table of checkpoints.",
        "Runs that are selected by dev {dev}; a line a training seed, the selected update ringed. The vertical axis "
        "is shared and does not start at 0. Runs differ in what an update takes.",
    ),
    "loss": (
        "Training and dev loss by update",
        "Dev losses are in the table of checkpoints.",
        "A line a training seed, the selected update ringed; the training loss is that of all terms, averaged over "
        "neighbouring updates where a run is long. Losses of different methods are not comparable, so each panel has "
        "its own axis. The dev loss is the method's own objective on held-out prompts.",
    ),
    "gradient_norm": (
        "Gradient norm by update",
        "Its mean is in the table of training.",
        "Before clipping; a line a training seed, averaged over neighbouring updates where a run is long. The vertical "
        "axis is shared and logarithmic.",
    ),
    "tokens_per_second": (
        "Tokens a second by update",
        "The mean is in the table of training.",
        "Measured on the machine of this run under its load, so no rerun repeats it. A line a training seed, averaged "
        "over neighbouring updates; the vertical axis is shared and logarithmic.",
    ),
    "entropy": (
        "Entropy by update",
        "Entropies of the selected models are in the table of quality.",
        "Of the student's next token along its own answers, of the runs that log it. A line a training seed; the "
        "vertical axis is shared.",
    ),
    "out_of_set": (
        "Share outside the teacher's sets by update",
        "Of held-out prompts it is in the table of learning.",
        "Of the tokens of the teacher's samples, and of the student's probability where a remainder counts it. A line "
        "a training seed; the vertical axis is shared.",
    ),
}
"""By figure: title, what its alternative text adds, and caption. The page shows them in this order."""
PAPER_FIGURES = {
    "figure1": "The counterpart of the paper's Figure 1. Of its Qwen-2.5 3B teacher, over 20 sequences, the paper "
    "states: the top 7 tokens hold at least 90% of the mass, the top 50 about 96%.",
    "figure2": "The counterpart of the paper's Figure 2.",
}
"""Added to the captions of figures where the study repeats models of the paper."""

GRID = (
    "**Bold**: the highest of the students. ± : standard deviation over training seeds, of one over sampling seeds. "
    "%: share of the first teacher's score. ◆: the best baseline on the set; ▲ ahead of it, ▼ behind it: decided after "
    "Holm's correction, under every training seed; no sign: cannot be told. A number leads to its record."
)
"""Stands below the grid."""

COLUMNS = (
    "The tables hold what the CSV files hold, rounded; columns without any value are left out, those of one value are "
    "named once, and an interval, `lo` to `hi`, is one column. ± is the column `std`. A click on a head sorts."
)
"""Stands above all tables."""
