"""The config's `external` section: what is supplied from outside."""

from pydantic import Field

from distill.config.base import Section


class External(Section):
    """Outputs supplied from outside: checked, recorded with their digest, and made by no stage of the study."""

    teacher: str | None = Field(
        None, description="Folder of a fine-tuned teacher (safetensors + tokenizer); null trains one."
    )
    phase1: str | None = Field(None, description="Folder of a phase-1 student; null trains one.")
    samples: str | None = Field(
        None,
        description="Teacher samples: a JSONL file of ids, or of texts ({id, response}), or a .bin file of records of "
        "data.max_prompt_tokens + 1 + teacher_samples.max_new_tokens ids, as the authors published theirs; null "
        "samples the teacher.",
    )
