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
        "The counterpart of the paper's Figure 2. Left: shares of all verdicts, both orders of presentation. Right: "
        "the win rate, a tie counting one half, with its 95% bootstrap interval over prompts.",
    ),
    "figure1": (
        "The teacher's sorted token mass",
        "The numbers are in the table of sorted token mass.",
        "The counterpart of the paper's Figure 1: how much of the teacher's next-token mass its k most probable tokens "
        "hold, mean over the states of its own samples.",
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
}
"""By figure: title, what its alternative text adds, and caption. The page shows them in this order."""
PAPER_FIGURE_1 = (
    "Of its Qwen-2.5 3B teacher, over 20 sequences, the paper states: the top 7 tokens hold at least 90% of the mass, "
    "the top 50 about 96%."
)
"""Added to the caption of figure1 where the study repeats models of the paper."""

COLUMNS = (
    "The tables hold what the CSV files hold, rounded; columns without any value are left out. ± is the column `std`, "
    "an interval goes from `lo` to `hi`. A click on a column's head sorts."
)
"""Stands above all tables."""
