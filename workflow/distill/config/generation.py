"""The config's `generation` section: what each selected model answers, and by which decodings."""

from collections.abc import Iterable

from pydantic import Field

from distill.config.base import Section


class Decoding(Section):
    """One way of decoding: temperature 0 is greedy and runs once, without seeds."""

    temperature: float = Field(1.0, ge=0, description="Temperature; 0 is greedy (paper: 1).")
    top_p: float = Field(
        1.0, gt=0, le=1, description="Nucleus mass; in (0, 1] (paper: unstated; authors' scripts: 0.8)."
    )


class Generation(Section):
    """Evaluation: what each selected model answers on each set."""

    seeds: list[int] = Field(
        [10, 20, 30, 40, 50], min_length=1, description="Sampling seeds, each once (paper: 10, 20, 30, 40, 50)."
    )
    decodings: dict[str, Decoding] = Field(
        default_factory=lambda: {
            "top_p_1.0": Decoding(),
            "top_p_0.8": Decoding(top_p=0.8),
            "greedy": Decoding(temperature=0),
        },
        min_length=1,
        description="Decodings by name; the first is the primary one, by which checkpoints are validated and "
        "which heads the tables.",
    )
    max_new_tokens: int = Field(40, ge=1, description="Longest response in tokens (paper: 256); at least 1.")
    dev_rows: int | None = Field(
        200, ge=1, description="Validate checkpoints on the first so many dev rows; null takes all."
    )
    dev_seed: int = Field(10, ge=0, description="Sampling seed of validation.")


def primary_decoding(decodings: Iterable[str]) -> str:
    """Returns the name of the decoding that validates checkpoints and heads the tables: the first one."""
    return next(iter(decodings))
