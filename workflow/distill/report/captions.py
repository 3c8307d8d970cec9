"""The words around the tables; an edit here reruns render_tables and nothing else."""

EMBEDDED = (
    "This is the embedded study: tiny models on a small invented world. It carries no claim about the paper and its "
    "numbers are not to be set beside published ones. It shows that the whole chain runs, and lets objectives be "
    "compared under one protocol."
)
STUDY = (
    "Every number below was computed by this study from its own config, but for the columns that say `paper`. A system "
    "stands beside another only within one table, where test prompts, decoding and sampling seeds are shared; what the "
    "systems were trained on is in the table of data seen."
)
SYSTEMS = (
    "`teacher` is the fine-tuned teacher, `phase1` the student that phase 2 starts from, and the others are the "
    "config's runs. `STUDENT.` before a name marks a further student, `.seedN` behind it a further training seed. "
    "Test sets select nothing: checkpoints are chosen on dev data."
)
ROUGE = (
    "Rouge-L F-measure with stemming, 0 to 100, best of a prompt's references, mean over prompts; ± is the sample "
    "standard deviation over sampling seeds of one trained model, not over training seeds."
)
PAPER = (
    "`paper`: the published number of the same model, method and set (Table 1); n/a where there is none. † The "
    "paper copied it from MiniLLM's paper, which scored at temperature 1 and top-p 1: it goes with that decoding "
    "alone. ‡ Equal to another row of the paper digit for digit: do not take it as a target. For its own rows the "
    "paper states temperature 1 and no top-p; its released scripts use 0.8. So they go with neither decoding for "
    "certain."
)
DATA_SEEN = (
    "What the updates of each run drew: distinct prompts, distinct responses (none where the run samples them itself), "
    "those of them that are labels of the data, and sequences with repetitions. The teacher's responses are no labels. "
    "What the start has seen comes on top: a run from phase 1 builds on phase 1's labelled rows, and all that distils "
    "on the teacher's. Plain text is not counted. Dropout: whether the model's own rates acted; Qwen2's and those of "
    "new models are 0."
)
ALIKE = (
    "Runs with the same start, prompts, responses, sequences and updates: {groups}. Between runs that are not in one "
    "group a difference is one of data or length as well as of method."
)
ALL_ALIKE = "All runs share start, prompts, responses, sequences and updates."
NONE_ALIKE = (
    "No two runs share start, prompts, responses, sequences and updates: every difference between them is one of data "
    "or length as well as of method."
)
TRAINING_SEEDS = (
    "Mean over training seeds and its sample standard deviation; in brackets the number of training seeds and, for "
    "scale, the mean standard deviation over sampling seeds of one trained model. The tables of answers and "
    "options show the first training seed; the CSV has all."
)
CLAIMS = (
    "What the paper claims, put to this study's runs: of each form of the objective the first bd run at the paper's "
    "setting (p = 0.8, or 0.5 for OPT-1.3B, with the chi-square term). A figure is a difference in Rouge-L with its "
    "95% paired bootstrap interval over prompts, several training seeds averaged first. A claim holds where the whole "
    "interval lies where the claim has it, and does not hold where no part of it does; otherwise, and where a run is "
    "missing, it cannot be told. About as good: within 0.5; at least as good: not lower by as much as 0.5. On every "
    "set: the figure is the smallest difference, and the claim fails if one interval lies below 0; the paper says so "
    "in words, but its own Table 1 has SeqKD ahead of BD in two Vicuna cells (GPT-2 340M and OPT-1.3B). Speed: the "
    "time of all of MiniLLM's updates over that of BD's, whichever checkpoints were selected; the interval is the "
    "range over training seeds, which one seed does not give. There is no verdict on speed where either run keeps its "
    "start or may be below it: where its interval against phase 1 on the first set in the primary decoding reaches "
    "-0.5. No correction is made for the number of claims."
)
CLAIMS_EMBEDDED = (
    "In this study a verdict says how a claim fares among tiny models on an invented world. It says nothing about "
    "the paper's setting."
)
COMPARISONS = (
    "Difference in Rouge-L, row system minus a control of the same student and training seed (phase 1, or a run of "
    "SFT, KD, SeqKD or MiniLLM), with the 95% interval of a paired bootstrap over prompts (10,000 resamples, a "
    "prompt's seeds averaged first). The p-value is two-sided and comes from the same resamples: twice the smaller "
    "share of differences at or beyond 0. `<=`: no resample is on the other side, so the number is an upper bound. It "
    "is adjusted by Holm's method for all comparisons of one student and training seed on one set in one decoding. "
    "Higher or lower: the adjusted p is below 0.05; undecided otherwise. The interval is not adjusted, so it may "
    "leave out 0 all the same."
)
PAIRS = (
    "Which pairs of systems the study decides: the difference in Rouge-L, row minus column, on the first set in the "
    "primary decoding, with its p-value adjusted by Holm's method for all pairs of one student; bold where it is below "
    "0.05. Intervals and p-values are those of the comparisons. Several training seeds are averaged prompt by prompt; "
    "how much another training seed would move a system is not in the p-value."
)
QUALITY = (
    "What stands behind a Rouge-L: a gain with lower entropy or shorter answers may be sharpening rather than "
    "distillation. Tokens: mean length, EOS included. Finished: share of answers that ended by themselves. "
    "Distinct-n: different n-grams over all n-grams of one seed's answers. Exact match in percent. Entropy: mean "
    "over the states of a model's own answers, in nats, first seed. Means over seeds; other decodings are in the "
    "CSV."
)
P_STUDY = (
    "The paper's Table 2: Bellman Distill by p, all else equal. With 50,000 tokens and more the floor of Q puts "
    "most of the projected policy on floored tokens at p = 1, so that clip scope `all` partly measures the floor "
    "there; `selected` leaves V unfloored."
)
CHI_SQUARE = "The paper's Table 4: Bellman Distill with and without the chi-square term, all else equal."
ABLATIONS = (
    "Every bd run. Dev: Rouge-L of the selected checkpoint on dev data. Differences are paired by prompt, with the "
    "95% bootstrap interval over prompts, not adjusted for their number. Several training seeds are averaged; ± is "
    "then over them."
)
HOURS = (
    "The paper's Table 3: hours of all updates, whichever checkpoint was selected. Training counts the time inside "
    "updates, what a method samples in training included, without start, evaluation and saving; device hours are hours "
    "times processes. Teacher samples and candidate sets are made once for all runs, as one job after another and with "
    "the start of each; of a resumed job the last try counts. The paper's hours are of its own machines."
)
CANDIDATES = (
    "The teacher's top-p sets at the states of its own samples. Where a set has one token the projected likelihood "
    "of Bellman Distill has no gradient. p_eff: mean teacher mass inside a set. Out of set: share of sampled tokens "
    "outside. The teacher's mean entropy at these states is {entropy} nats; the stored sets, those of the largest p, "
    "take {size} bytes a response token."
)
SORTED_MASS = (
    "Mean mass of the teacher's k most probable tokens over the states of its own samples that a token follows "
    "(paper, Figure 1)."
)
LEARNING = (
    "Each run's own objective on the teacher's samples of held-out prompts, before training, at the selected and at "
    "the last update, and the paired change since update 0 with its 95% bootstrap interval over prompts (a prompt's "
    "samples averaged first). Lower is learnt. `linear` is the objective without the chi-square term; for the "
    "sampled objective it is -log of the student projected onto the candidate set. Values of different objectives "
    "are not comparable, changes of one are. `student_outside` and `teacher_outside` are the mean masses that either "
    "model gives to all tokens outside the candidate sets; distillation is to bring the first to the second."
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
    "Checkpoints are chosen on dev data alone, never on a test set. The start of a run that starts from phase 1 is a "
    "candidate, too, as update 0 (but for the rule `last`); the earliest wins a tie. A run that keeps its start has "
    "phase 1's weights, and its scores are phase 1's. All candidates with their dev scores are in the CSV."
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
