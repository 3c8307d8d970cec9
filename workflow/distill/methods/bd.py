"""BD, Bellman Distill: temporal-difference imitation on the teacher's samples and top-p sets (paper eq. 16)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from distill.config.base import Section
from distill.config.runs import Need, Run

if TYPE_CHECKING:
    from distill.config.study import Study
    from distill.training.bellman import BellmanDistill
    from distill.training.context import MethodContext


class Bellman(Section):
    """Options of the Bellman Distill objective (paper eq. 16; docs/deviations.md where the paper is silent)."""

    objective: Literal["sampled", "released", "expected"] = Field(
        "sampled",
        description="sampled (the printed objective, eq. 16), released (what the authors' code computes), or expected "
        "(ours: the linear part in expectation over the teacher's set; p below 1).",
    )
    remainder: bool = Field(
        False,
        description="Ours: all tokens outside the set are one further action, so that the mass there is learnt too; "
        "not with released.",
    )
    p: float = Field(
        0.8, gt=0, le=1, description="Top-p of the teacher's candidate sets; in (0, 1] (paper: 0.8; 0.5 for OPT-1.3B)."
    )
    gamma: float = Field(0.99, ge=0, le=1, description="Discount; in [0, 1] (paper: 0.99).")
    alpha: float = Field(
        0.1, gt=0, description="Chi-square strength: phi(x) = x - x^2/(4 alpha); above 0 (paper: 0.1)."
    )
    chi2: Literal["none", "printed", "centred"] | None = Field(
        None,
        validate_default=True,
        description="Chi-square term: printed (x^2), none (phi(x) = x; paper, Table 4), or centred (ours: x less the "
        "same residual of the teacher; p below 1, not with released); null: none with remainder, else printed.",
    )
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
    reduction: Literal["token", "sequence"] | None = Field(
        None,
        validate_default=True,
        description="Mean over the global batch's transitions (token) or mean of sequence means (sequence); null: "
        "sequence with released, as its code, else token.",
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

    @field_validator("chi2")
    @classmethod
    def _default_chi2(cls, chi2: str | None, info: ValidationInfo) -> str:
        return chi2 or ("none" if info.data.get("remainder") else "printed")

    @model_validator(mode="after")
    def _needs_of_the_objective(self) -> "Bellman":
        if self.q_min is None and (self.objective == "released" or self.oos_action == "floor"):
            raise ValueError("q_min: expected a number with objective released or oos_action floor, found null")
        for name, value in (("objective", "expected"), ("chi2", "centred")):
            if getattr(self, name) == value and self.p == 1:
                raise ValueError(f"p: expected a number below 1 with {name} {value}, found 1")
        if self.objective == "released" and self.remainder:
            raise ValueError("remainder: expected false with objective released, found true; take sampled or expected")
        if self.objective == "released" and self.chi2 == "centred":
            raise ValueError("chi2: expected printed or none with objective released, found centred")
        if self.remainder and self.oos_action != "drop":
            raise ValueError(
                f"oos_action: expected drop with remainder, found {self.oos_action}; no transition leaves its set there"
            )
        if self.chi2 == "centred" and self.oos_action == "include":
            raise ValueError("oos_action: expected drop or floor with chi2 centred, found include")
        return self

    @field_validator("reduction")
    @classmethod
    def _default_reduction(cls, reduction: str | None, info: ValidationInfo) -> str:
        return reduction or ("sequence" if info.data.get("objective") == "released" else "token")


class BellmanRun(Run):
    """Phase 2: Bellman Distill from the phase-1 student on the teacher's samples."""

    method: Literal["bd"] = Field("bd", description="`bd`: Bellman Distill.")
    dropout: bool = Field(
        False, description="Train with the model's own dropout rates (true) or without dropout (false; code: none)."
    )
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

    @property
    def needs(self) -> frozenset[Need]:
        """Samples, sets unless p = 1, and what the plain-text term reads."""
        needs: set[Need] = {"teacher_samples"}
        if self.bellman.p < 1:
            needs.add("candidate_sets")
        if self.plain_text_weight > 0:
            needs.add("plain_text")
            if self.plain_text_kd_ratio > 0:
                needs.add("teacher_logits")
        return frozenset(needs)

    def problems(self, study: "Study") -> Iterator[str]:
        """Yields a p that the candidate sets do not reach, too."""
        yield from super().problems(study)
        if study.candidates.p_max < self.bellman.p < 1:
            yield (
                f"bellman.p: expected at most candidates.p_max = {study.candidates.p_max} (or 1), found "
                f"{self.bellman.p}; lower p or raise candidates.p_max"
            )


def build_task(context: "MethodContext") -> "BellmanDistill":
    """Returns the task: samples of training prompts to learn from, samples of dev prompts to watch the objective on."""
    from distill.training.bellman import BellmanDistill, loss_options, permute_responses, read_trajectories
    from distill.training.plain_text import plain_text_term

    run, seed = context.run, (context.seed, context.name)
    train, dev, sets = read_trajectories(context, run.bellman.p)
    if run.permute_responses:
        train = permute_responses(train, *seed, "permute")
    plain_text = plain_text_term(context, run.plain_text_kd_ratio) if run.plain_text_weight > 0 else None
    options = loss_options(run.bellman)
    return BellmanDistill(train, dev, sets, options, plain_text, run.plain_text_weight, seed, context.device)
