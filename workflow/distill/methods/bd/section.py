"""The section `bellman` of a BD run, which the objectives take as it is."""

import math
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from distill.config.base import Section


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

    @property
    def floor(self) -> float:
        """`q_min`, or minus infinity where it is off."""
        return -math.inf if self.q_min is None else self.q_min

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher's probabilities enter, beside its actions and the membership in its sets."""
        return self.objective == "expected" or self.chi2 == "centred"

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
