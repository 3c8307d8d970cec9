"""The config's `judge` section: who compares two systems' answers, on which prompts, and what it may cost."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from distill.config.base import Section
from distill.config.remote import RemoteModel


def _two_systems(pair: tuple[str, str]) -> tuple[str, str]:
    if pair[0] == pair[1] or "tie" in pair:
        raise ValueError("a pair needs two different systems, neither named tie")
    return pair


Pair = Annotated[tuple[str, str], AfterValidator(_two_systems)]


class _Kind(Section):
    """What stands first in the section."""

    kind: Literal["auto", "openai", "overlap", "none"] = Field(
        "auto",
        description="openai: a chat model behind an OpenAI-compatible server (paper: GPT-4o-mini); overlap: the answer "
        "of the higher score by `metric` wins, no key needed; auto: openai if the variable `api_key_env` is set, else "
        "overlap; none: nothing is judged, for tasks whose answers are checked.",
    )
    metric: str = Field(
        "rouge_l",
        description="By what kind overlap scores: the name of a file of workflow/distill/metrics, such as rouge_l or "
        "rouge_l_any_script.",
    )


class Judging(RemoteModel, _Kind):
    """Pairwise judging (paper, win-rate figure: GPT-4o-mini on 500 Dolly test prompts, both orders averaged)."""

    section: ClassVar[str] = "judge"
    fewer: ClassVar[str] = "judge.prompts"
    without: ClassVar[str] = "set judge.kind to overlap"
    kept: ClassVar[str] = "finished verdicts are kept"

    model: str = Field(
        "gpt-4o-mini-2024-07-18",
        min_length=1,
        description="Judge model, a dated snapshot so that verdicts can be compared (paper: GPT-4o-mini, undated).",
    )
    wording: Literal["own", "paper_figure4"] = Field(
        "own",
        description="own: our prompt; paper_figure4: the order of parts of the paper's Figure 4 in our words, since "
        "its exact text is not available.",
    )
    reply_tokens: int = Field(
        4,
        ge=1,
        le=100_000,
        description="Most tokens of a reply; 1 to 100,000. A verdict may take more than one; a model that reasons "
        "first needs some thousands.",
    )
    batch: bool = Field(
        False,
        description="Hand all questions in at once through the server's Batch API, whose answers come within a day, "
        "at `batch_price` of the prices.",
    )
    batch_price: float = Field(
        0.5,
        ge=0,
        le=1,
        description="What a batched request costs, as a share of the prices; 0 to 1 (OpenAI: one half).",
    )
    batch_poll_s: float = Field(
        60.0, ge=1, le=3600, description="Seconds between looks at a batch that is under way; 1 to 3,600."
    )
    unparsable_retries: int = Field(
        0,
        ge=0,
        description="Further tries after a reply other than A, B or Tie; then Tie, and counted; at least 0. At "
        "temperature 0 the same question seldom gets another reply.",
    )
    pairs: list[Pair] = Field(
        [],
        description="Pairs [system, opponent] to judge; empty: the main student's runs that are no controls, each "
        "against each control. Controls are phase1 (or base in its place) and the runs of sft, kd, seqkd and minillm; "
        "every system is also compared with them.",
    )
    prompts: int | None = Field(
        None, ge=1, description="Judge the first so many prompts of the set; null takes all (paper: 500)."
    )
    dataset: str = Field("dolly", description="Evaluation set whose prompts are judged (paper: DollyEval).")
    decoding: str = Field("top_p_1.0", description="Name of the decoding whose responses are judged.")
    seed: int = Field(10, ge=0, description="Sampling seed whose responses are judged (paper: one response a prompt).")


def resolve_judge(judge: Judging, environ: Mapping[str, str]) -> Judging:
    """Returns the section with `auto` replaced: openai where the key's variable is set and not empty, else overlap."""
    if judge.kind != "auto":
        return judge
    return judge.model_copy(update={"kind": "openai" if environ.get(judge.api_key_env) else "overlap"})
