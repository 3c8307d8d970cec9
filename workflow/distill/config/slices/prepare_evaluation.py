"""The slice of the config that `prepare_evaluation` depends on."""

from typing import Literal

from distill.config.base import Section


class PrepareEvaluation(Section):
    """Slice of prepare_evaluation.

    `part` is dev or test where the set is cut from the instructions, prompts where it is of the preference pairs, else
    null. `leave_out` names the test sets whose
    prompts leave dev. `max_total_tokens` is set for dev, whose responses are read, and null for a set that is only
    generated on.
    """

    name: str
    part: Literal["dev", "test", "prompts"] | None
    leave_out: list[str] = []
    wrapper: str
    max_prompt_tokens: int
    max_total_tokens: int | None = None
