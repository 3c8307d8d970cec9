"""The options of the Bellman Distill objectives, with the published defaults."""

from dataclasses import dataclass
from typing import Any, Literal

from distill.errors import ConfigError


@dataclass(frozen=True)
class BellmanOptions:
    """Options of the objective as the paper states it (BD, arXiv eq. 16); defaults decide where the paper is silent.

    objective: the linear part takes Q(s, a) at the sampled action, or (`expected`, ours) its mean under the teacher
    projected on the set, wherever the sampled action is in the set; chi2 and the sums stay on the sampled actions.
    remainder (ours): all tokens outside the set are one further action, whose Q is the logsumexp of theirs before the
    floor, and whose teacher mass is what the set leaves. Sampled tokens outside the set take it, so none is dropped.
    q_shift: taken from each row of logits: its maximum, its logsumexp, or nothing; the gradient flows through it.
    q_min: floor of Q (None: no floor). clip_scope: floor every Q, or only the gathered Q(s, a), leaving V unclipped.
    chi2, alpha: no penalty, x^2 / (4 alpha) as printed, or centred (ours): (x - x*)^2 / (4 alpha), where x* is the same
    residual formed from the teacher's log-probabilities. gamma: discount. temperature: divides the student's logits.
    oos_action: a sampled token outside its set is dropped, joins the set, or takes Q = q_min.
    eos_action: exclude leaves the transition into the end out of the sums; its neighbours stay as they are.
    truncation: a response without EOS bootstraps on its last state, or loses its last transition.
    reduction: mean over transitions, or mean of per-sequence means. occupancy_weights: weigh transition t by gamma^t.
    detach_next_value: no gradient through V(s'). value_loss: E[V(s) - gamma V(s')], or (1 - gamma) V(s_0) of the
    sequence at each of its transitions.
    """

    objective: Literal["sampled", "expected"] = "sampled"
    remainder: bool = False
    q_shift: Literal["max", "lse", "none"] = "max"
    q_min: float | None = -10.0
    clip_scope: Literal["all", "selected"] = "all"
    chi2: Literal["none", "printed", "centred"] = "printed"
    alpha: float = 0.1
    gamma: float = 0.99
    temperature: float = 1.0
    oos_action: Literal["drop", "include", "floor"] = "drop"
    eos_action: Literal["include", "exclude"] = "include"
    truncation: Literal["bootstrap", "drop_last"] = "bootstrap"
    reduction: Literal["token", "sequence"] = "token"
    occupancy_weights: bool = False
    detach_next_value: bool = False
    value_loss: Literal["telescoped", "v0"] = "telescoped"

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        _one_of(self, "objective", "sampled", "expected")
        _one_of(self, "q_shift", "max", "lse", "none")
        _one_of(self, "clip_scope", "all", "selected")
        _one_of(self, "chi2", "none", "printed", "centred")
        _one_of(self, "oos_action", "drop", "include", "floor")
        _one_of(self, "eos_action", "include", "exclude")
        _one_of(self, "truncation", "bootstrap", "drop_last")
        _one_of(self, "reduction", "token", "sequence")
        _one_of(self, "value_loss", "telescoped", "v0")
        _check(self.q_min is None or self.q_min < 0, "q_min", "a negative number or none", self.q_min)
        _check(self.alpha > 0, "alpha", "a positive number", self.alpha)
        _check(0 <= self.gamma <= 1, "gamma", "a number in [0, 1]", self.gamma)
        _check(self.temperature > 0, "temperature", "a positive number", self.temperature)
        _check(self.oos_action != "floor" or self.q_min is not None, "q_min", "a number with oos_action floor", None)
        _check(not self.remainder or self.oos_action == "drop", "oos_action", "drop with remainder", self.oos_action)
        joins = self.chi2 == "centred" and self.oos_action == "include"  # the sets do not tell that token's probability
        _check(not joins, "oos_action", "drop or floor with chi2 centred", self.oos_action)

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher's probabilities enter, beside its actions and the membership in its sets."""
        return self.objective == "expected" or self.chi2 == "centred"


@dataclass(frozen=True)
class ReleasedOptions:
    """Options of the objective as the released code computes it; p divides the projected policy before epsilon joins.

    epsilon: added to every entry of the projected policy (the release never defines it). reduction: `sequence` is the
    release's own (micro-batches of one sequence).
    """

    p: float
    q_min: float = -10.0
    chi2: Literal["none", "printed"] = "printed"
    alpha: float = 0.1
    gamma: float = 0.99
    epsilon: float = 1e-8
    reduction: Literal["token", "sequence"] = "sequence"

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        _one_of(self, "chi2", "none", "printed")
        _one_of(self, "reduction", "token", "sequence")
        _check(0 < self.p <= 1, "p", "a number in (0, 1]", self.p)
        _check(self.q_min < 0, "q_min", "a negative number", self.q_min)
        _check(self.alpha > 0, "alpha", "a positive number", self.alpha)
        _check(0 <= self.gamma <= 1, "gamma", "a number in [0, 1]", self.gamma)
        _check(self.epsilon > 0, "epsilon", "a positive number (0 gives NaN)", self.epsilon)


def _one_of(options: Any, name: str, *choices: str) -> None:
    _check(getattr(options, name) in choices, name, f"one of {', '.join(choices)}", getattr(options, name))


def _check(valid: bool, name: str, expected: str, found: Any) -> None:
    if not valid:
        raise ConfigError(f"{name}: expected {expected}, found {found!r}; set {name} accordingly")
