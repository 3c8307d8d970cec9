"""MiniLLM: reverse KL of whole responses by policy gradient on the student's own samples (Gu et al. 2024)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from distill.rollouts.section import SamplingRun

if TYPE_CHECKING:
    from distill.methods.minillm.task import MiniLlm
    from distill.study.study import Study
    from distill.training.context import MethodContext

_VARIANTS = {
    "minillm_code": {
        "current_token": True,
        "discount": 0.95,
        "whitening": True,
        "reward_scaling": 0.5,
        "plain_text_kd_ratio": 0.5,
    },
    "minillm_paper": {
        "current_token": False,
        "discount": 1.0,
        "whitening": False,
        "reward_scaling": 1.0,
        "plain_text_kd_ratio": 0.0,
    },
}


class MiniLlmRun(SamplingRun):
    """Phase 2: MiniLLM from the phase-1 student; keys that are null take the variant's value."""

    is_control: ClassVar[bool] = True

    method: Literal["minillm"] = Field("minillm", description="`minillm`: policy gradient on the student's samples.")
    dropout: bool = Field(
        False, description="Train with the model's own dropout rates (true) or without dropout (false; code: none)."
    )
    variant: Literal["minillm_code", "minillm_paper"] = Field(
        "minillm_code", description="Released code (minillm_code) or paper (minillm_paper), where the two differ."
    )
    current_token: bool | None = Field(
        None, description="Count a token's own reward in its advantage (code: true; paper: false)."
    )
    discount: float | None = Field(None, ge=0, le=1, description="Of future rewards; in [0, 1] (code: 0.95; paper: 1).")
    whitening: bool | None = Field(
        None, description="Whiten advantages over the global batch, padding included (code: true; paper: false)."
    )
    reward_scaling: float | None = Field(
        None,
        gt=0,
        description="Divides rewards before reward_clip; whitening undoes it; above 0 (code: 0.5; paper: 1).",
    )
    plain_text_kd_ratio: float | None = Field(
        None, ge=0, le=1, description="Share of teacher KD in the plain-text term; in [0, 1] (code: 0.5; paper: 0)."
    )
    teacher_mix: float = Field(
        0.2, ge=0, le=1, description="Share of the teacher in the sampled mixture; in [0, 1] (paper: 0.2)."
    )
    prompts_per_round: int = Field(
        256, ge=1, description="Prompts answered a round; a multiple of training.batch (script: 256)."
    )
    inner_epochs: int = Field(4, ge=1, description="Passes over a round before new answers; at least 1 (script: 4).")
    clip: float = Field(0.2, gt=0, description="Largest distance of the policy ratio from 1; above 0 (paper: 0.2).")
    reward_clip: float = Field(100.0, gt=0, description="Largest absolute reward; above 0 (script: 100).")
    single_step: bool = Field(True, description="Add the exact one-step reverse KL (paper and code).")
    plain_text_weight: float = Field(
        1.0, ge=0, description="Weight of the plain-text term; 0 skips it (paper and script: 1)."
    )
    max_new_tokens: int = Field(40, ge=1, description="Longest sampled response in tokens (paper: 256); at least 1.")

    @property
    def needs(self) -> frozenset[str]:
        """Prompts, the teacher, and plain text unless its term has no weight."""
        return frozenset({"prompts", "teacher_logits"} | ({"plain_text"} if self.plain_text_weight > 0 else set()))

    @property
    def settled(self) -> "MiniLlmRun":
        """The run with the variant's value in place of each null."""
        unset = {key: value for key, value in _VARIANTS[self.variant].items() if getattr(self, key) is None}
        return self.model_copy(update=unset)

    def problems(self, study: "Study") -> Iterator[str]:
        """Yields a round that is no whole number of batches, a mixture that no engine samples, epochs, too."""
        yield from super().problems(study)
        if self.rollout_engine == "sampling" and self.teacher_mix > 0:
            yield (
                "rollout_engine: expected training, since an engine cannot sample from student and teacher together, "
                f"found sampling with teacher_mix {self.teacher_mix}; set that to 0, or rollout_engine to training"
            )
        if self.prompts_per_round % self.training.batch:
            yield (
                f"prompts_per_round: expected a multiple of training.batch = {self.training.batch}, found "
                f"{self.prompts_per_round}; change one of them"
            )
        if self.training.epochs is not None:
            yield (
                f"training.epochs: expected null, since answers are sampled on the way, found {self.training.epochs}; "
                "give training.steps"
            )


def build_task(context: "MethodContext") -> "MiniLlm":
    """Returns the task: prompts that the teacher is sampled on too; the held-out objective is along dev's answers."""
    from distill.data.tokens import encode_file, load_tokenizer
    from distill.methods.minillm.task import MiniLlm, log_probs_with
    from distill.rollouts.rounds import Rounds
    from distill.rollouts.sampler import Sampler
    from distill.training.plain_text import plain_text_term

    run, teacher = context.run.settled, context.load_teacher()
    tokenizer, eos_id = load_tokenizer(context.tokenizer)
    prompts, dev = (
        encode_file(path, tokenizer, context.wrapper, eos_id)
        for path in (context.split / "train.jsonl", context.dev / "examples.jsonl")
    )

    seed, training = (context.seed, context.name), run.training
    sampler = Sampler(
        eos_id,
        run.max_new_tokens,
        training.micro_batch,
        teacher=teacher,
        teacher_mix=run.teacher_mix,
        score=log_probs_with(teacher),
        process=context.rollout_engine,
    )
    updates = run.inner_epochs * (run.prompts_per_round // training.batch)
    rounds = Rounds(prompts[: context.prompts], sampler, run.prompts_per_round, updates, seed)
    plain_text = plain_text_term(context, run.plain_text_kd_ratio) if run.plain_text_weight > 0 else None
    return MiniLlm(rounds, dev, teacher, run, plain_text, seed, context.device)
