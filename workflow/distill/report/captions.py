"""The words around the tables; an edit here reruns render_tables and nothing else."""

EMBEDDED = (
    "This is the embedded study: tiny models on a small invented world. It carries no claim about the paper and its "
    "numbers are not to be set beside published ones. It shows that the whole chain runs, and lets objectives be "
    "compared under one protocol."
)
STUDY = (
    "Every number below was computed by this study from its own config; none is copied from a paper. A system stands "
    "beside another only within one table, where data, prompts, decoding and seeds are shared."
)
SYSTEMS = (
    "`teacher` is the fine-tuned teacher, `phase1` the student that phase 2 starts from, and the others are the "
    "config's runs. Test sets select nothing: checkpoints are chosen on dev data."
)
ROUGE = (
    "Rouge-L F-measure with stemming, 0 to 100, best of a prompt's references, mean over prompts; ± is the sample "
    "standard deviation over sampling seeds of one trained model, not over training seeds."
)
COMPARISONS = (
    "Difference in Rouge-L, row system minus baseline, with the 95% interval of a paired bootstrap over prompts "
    "(10,000 resamples, a prompt's seeds averaged first). Higher or lower: the interval leaves out 0; undecided "
    "otherwise. No correction is made for the number of comparisons."
)
QUALITY = (
    "What stands behind a Rouge-L: a gain with lower entropy or shorter answers may be sharpening rather than "
    "distillation. Tokens: mean length, EOS included. Finished: share of answers that ended by themselves. "
    "Distinct-n: different n-grams over all n-grams of one seed's answers. Exact match in percent. Entropy: mean "
    "over the states of a model's own answers, in nats, first seed. Means over seeds; other decodings are in the "
    "CSV."
)
CANDIDATES = (
    "The teacher's top-p sets at the states of its own samples. Where a set has one token the projected likelihood "
    "of Bellman Distill has no gradient. p_eff: mean teacher mass inside a set. Out of set: share of sampled tokens "
    "outside. The teacher's mean entropy at these states is {entropy} nats."
)
LEARNING = (
    "Each run's own objective on the teacher's samples of held-out prompts, before training, at the selected and at "
    "the last update, and the paired change since update 0 with its 95% bootstrap interval over prompts (a prompt's "
    "samples averaged first). Lower is learnt. `linear` is the objective without the chi-square term; for the "
    "sampled objective it is -log of the student projected onto the candidate set. Values of different objectives "
    "are not comparable, changes of one are."
)
WIN_RATES = (
    "Share of prompts won by the system, a tie counting one half, averaged over both orders of presentation, with "
    "its 95% bootstrap interval over prompts. Wins, ties and losses are shares of all verdicts. Consistent: prompts "
    "on which both orders give the same winner. Unparsable replies count as ties."
)
OVERLAP_JUDGE = "reference overlap"
OVERLAP = (
    "**Judge: reference overlap.** No language model judged. The answer with the higher Rouge-L against the "
    "references wins, so these rates measure once more what Rouge-L measures and are no independent evidence."
)
SELECTION = (
    "Checkpoints are chosen on dev data alone, never on a test set. All candidates with their dev scores are in the "
    "CSV."
)
TRAINING = (
    "Seconds are those inside optimiser updates, without start, evaluation and saving; tokens are those that went "
    "through the student. The gradient norm is taken before clipping. Dev losses of different methods are not "
    "comparable."
)
LIMITS = (
    "Times and tokens a second: they hold for the machine of this run and its load.",
    "Rouge-L under different decodings: a lower top-p or greedy decoding alone moves it. Compare systems within one "
    "decoding.",
    "Distinct-n between sets of different size, and losses of different objectives.",
    "Spread over training seeds: each run was trained once; ± says how much the sampling of answers moves a score.",
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
