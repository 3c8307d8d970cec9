"""BD, Bellman Distill: temporal-difference imitation on the teacher's samples and top-p sets (paper eq. 16)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from distill.config.runs import Run
from distill.methods.bd.section import Bellman

if TYPE_CHECKING:
    from distill.methods.bd.task import BellmanDistill
    from distill.study.study import Study
    from distill.training.context import MethodContext


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
    def needs(self) -> frozenset[str]:
        """Samples, sets unless p = 1, and what the plain-text term reads."""
        needs = {"teacher_samples"}
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
    from distill.methods.bd.task import BellmanDistill, permute_responses, read_trajectories
    from distill.training.plain_text import plain_text_term

    run, seed = context.run, (context.seed, context.name)
    train, dev, sets = read_trajectories(context, run.bellman.p)
    if run.permute_responses:
        train = permute_responses(train, *seed, "permute")
    plain_text = plain_text_term(context, run.plain_text_kd_ratio) if run.plain_text_weight > 0 else None
    return BellmanDistill(train, dev, sets, run.bellman, plain_text, run.plain_text_weight, seed, context.device)
