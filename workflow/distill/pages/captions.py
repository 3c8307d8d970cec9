"""The words around the tables, whose own stand in their files; an edit here makes the pages again and nothing else."""

EMBEDDED = (
    "This is an embedded study: tiny models on small invented data. It carries no claim about the paper and its "
    "numbers are not to be set beside published ones. It shows that the whole chain runs, and lets objectives be "
    "compared under one protocol."
)
STUDY = (
    "Every number below was computed by this study from its own config, but for the columns that say `paper`. A system "
    "stands beside another only within one table, where test prompts, decoding and sampling seeds are shared; what the "
    "systems were trained on is in the table of data seen."
)
SYSTEMS = (
    "`teacher` is the fine-tuned teacher, `phase1` the student that phase 2 starts from (`base` where there "
    "is no phase 1), and the others are the config's runs. `STUDENT.` before a name marks a further student, `.seedN` "
    "behind it a further training seed. "
    "Test sets select nothing: checkpoints are chosen on dev data."
)
LIMITS = (
    "Times and tokens a second: they hold for the machine of this run and its load.",
    "{scores} under different decodings: a lower top-p or greedy decoding alone moves it. Compare systems within one "
    "decoding.",
    "Distinct-n between sets of different size, and losses of different objectives.",
    "Spread: ± over sampling seeds says how much the sampling of answers moves one model's score, not how much another "
    "training seed would.",
)
EXACT = (
    "Everything else is built to repeat bit for bit from the same config, code and locked environment on the same "
    "kind of CPU. Another kind of CPU or another release of the training or sampling engine may change last digits, "
    "and through sampling whole answers."
)
INEXACT = (
    "{stage} ran on {device} in {arithmetic}: kernels and batch shapes change the order of sums, so a rerun agrees "
    "in distribution, not bit for bit. Another device or engine release adds to this."
)
CHAT_JUDGE = (
    "Verdicts of {judge}: a served model may answer differently at temperature 0, and another snapshot or wording is "
    "another judge. The raw replies are kept beside each win rate."
)
