"""The slice of the config that `adopt_samples` depends on."""

from distill.config.base import Section


class AdoptSamples(Section):
    """Slice of adopt_samples: what texts and files of fixed records leave out."""

    wrapper: str
    prompt_tokens: int
    response_tokens: int
    held_out_prompts: int
