"""Config sections of the training runs: the teacher, phase 1, and every compared method."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from distill.config.base import Section
from distill.config.training import Training

SelectionRule = Literal["dev_rouge", "dev_loss", "last"]


class SftRun(Section):
    """Supervised fine-tuning on the instruction data."""

    method: Literal["sft"] = Field("sft", description="`sft`: cross entropy on the human responses.")
    start: Literal["base", "phase1"] = Field("base", description="Where training starts: base or phase1.")
    updates_of: str | None = Field(
        None,
        description="Train for as many updates as this run of phase 2 (then training.steps and epochs are ignored).",
    )
    select: SelectionRule = Field(
        "dev_rouge", description="Checkpoint rule: dev_rouge (best dev Rouge-L), dev_loss (lowest dev loss) or last."
    )
    training: Training = Field(
        description="The optimiser's recipe (MiniLLM scripts: lr 5e-4, 20 epochs for GPT-2 120M)."
    )


class Bellman(Section):
    """Options of the Bellman Distill objective (paper eq. 16; docs/deviations.md where the paper is silent)."""

    objective: Literal["sampled", "released"] = Field(
        "sampled", description="sampled (the printed objective, eq. 16) or released (what the authors' code computes)."
    )
    p: float = Field(
        0.8, gt=0, le=1, description="Top-p of the teacher's candidate sets; in (0, 1] (paper: 0.8; 0.5 for OPT-1.3B)."
    )
    gamma: float = Field(0.99, ge=0, le=1, description="Discount; in [0, 1] (paper: 0.99).")
    alpha: float = Field(
        0.1, gt=0, description="Chi-square strength: phi(x) = x - x^2/(4 alpha); above 0 (paper: 0.1)."
    )
    chi2: bool = Field(True, description="Keep the chi-square term; false sets phi(x) = x (paper, Table 4).")
    q_min: float | None = Field(
        -10.0, lt=0, description="Floor of the shifted Q; below 0, null turns it off (paper: -10)."
    )
    q_shift: Literal["max", "lse", "none"] = Field(
        "max", description="Constant that turns logits into Q: max, lse or none (paper: unspecified; code: max)."
    )
    clip_scope: Literal["all", "selected"] = Field(
        "all", description="Floor every Q (all) or only the sampled action's (selected; matters at p = 1)."
    )
    oos_action: Literal["drop", "include", "floor"] = Field(
        "drop", description="Sampled token outside the set: drop the transition, include the token, or floor its Q."
    )
    eos_action: Literal["include", "exclude"] = Field(
        "include", description="Treat EOS as an action (include) or mask it as the released code does (exclude)."
    )
    truncation: Literal["bootstrap", "drop_last"] = Field(
        "bootstrap", description="Response cut without EOS: bootstrap with V(s_T), or drop the last transition."
    )
    reduction: Literal["token", "sequence"] = Field(
        "token", description="Mean over the global batch's transitions (token) or mean of sequence means (sequence)."
    )
    occupancy_weights: bool = Field(
        False, description="Weigh transition t by gamma^t (paper's rho*; the code does not)."
    )
    detach_next_value: bool = Field(False, description="No gradient through V(s'), as an option of IQ-Learn.")
    value_loss: Literal["telescoped", "v0"] = Field(
        "telescoped", description="Value term: E[V(s) - gamma V(s')] (telescoped, paper) or (1 - gamma) V(s_0) (v0)."
    )
    epsilon: float = Field(
        1e-8, gt=0, description="Smoothing of `released` only; above 0 (undefined in the authors' code)."
    )

    @model_validator(mode="after")
    def _floor_where_needed(self) -> "Bellman":
        if self.q_min is None and (self.objective == "released" or self.oos_action == "floor"):
            raise ValueError("q_min: expected a number with objective released or oos_action floor, found null")
        return self


class BellmanRun(Section):
    """Phase 2: Bellman Distill from the phase-1 student on the teacher's samples."""

    method: Literal["bd"] = Field("bd", description="`bd`: Bellman Distill.")
    bellman: Bellman = Field(default_factory=Bellman, description="The objective and its options.")
    plain_text_weight: float = Field(
        1.0, ge=0, description="Weight of the plain-text term L_PT; 0 skips it (paper: no weight given; MiniLLM: 1)."
    )
    plain_text_kd_ratio: float = Field(
        0.0, ge=0, le=1, description="Share of teacher KD in L_PT; in [0, 1] (paper: 0; authors' script: 0.5)."
    )
    permute_responses: bool = Field(
        False, description="Control: train on responses permuted between prompts, from which nothing can be learnt."
    )
    select: SelectionRule = Field(
        "dev_rouge", description="Checkpoint rule: dev_rouge, dev_loss (held-out objective) or last."
    )
    training: Training = Field(
        description="The optimiser's recipe (paper: batch 64, lr 5e-6, 3 epochs over the samples)."
    )


Run = Annotated[SftRun | BellmanRun, Field(discriminator="method")]

PHASE_2 = dict(batch=64, micro_batch=64, weight_decay=1e-6, evaluate_every=50)


class TeacherRun(Section):
    """The teacher's supervised fine-tuning."""

    select: Literal["dev_loss", "dev_rouge", "last"] = Field(
        "dev_loss", description="Checkpoint rule: dev_loss, dev_rouge or last."
    )
    training: Training = Field(
        default_factory=lambda: Training(
            steps=900, batch=16, micro_batch=16, learning_rate=1e-3, warmup_steps=30, evaluate_every=225
        ),
        description="The optimiser's recipe (MiniLLM scripts: lr 5e-5, 10 epochs for GPT-2 1.5B).",
    )


class Phase1Run(Section):
    """The student's phase 1: a short supervised fine-tuning that phase 2 starts from."""

    select: Literal["dev_loss", "dev_rouge", "last"] = Field(
        "dev_loss", description="Checkpoint rule (paper: lowest dev loss)."
    )
    training: Training = Field(
        default_factory=lambda: Training(steps=100, learning_rate=4e-3, warmup_steps=30, evaluate_every=50),
        description="The optimiser's recipe (paper: 3 epochs).",
    )


def default_runs() -> dict[str, SftRun | BellmanRun]:
    """Returns the embedded study's compared runs."""
    phase_2 = Training(steps=200, learning_rate=1e-4, **PHASE_2)
    return {
        "sft": SftRun(training=Training(steps=400, learning_rate=4e-3, warmup_steps=30, evaluate_every=100)),
        "sft_continued": SftRun(start="phase1", updates_of="bd_sampled", training=phase_2),
        "bd_sampled": BellmanRun(training=phase_2),
        "bd_released": BellmanRun(bellman=Bellman(objective="released", reduction="sequence"), training=phase_2),
    }
