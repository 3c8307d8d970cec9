"""The config's `environments` section: the interpreter and the lock of each software family."""

from pydantic import Field

from distill.config.base import Section


class Environment(Section):
    """One locked environment."""

    python: str = Field(
        "python", description="Interpreter that the family's rules call; `python` is the active environment's."
    )
    lock: str = Field(
        "envs/cpu.lock", description="The environment's lock; a changed lock reruns what was made with it."
    )


class Environments(Section):
    """Software families; on one CPU machine all three are the same environment."""

    light: Environment = Field(
        default_factory=Environment, description="Data, selection, scores, judge, tables: no torch."
    )
    train: Environment = Field(
        default_factory=Environment, description="torch and DeepSpeed: base models, training, candidates."
    )
    vllm: Environment = Field(default_factory=Environment, description="vLLM: teacher samples, validation, evaluation.")
