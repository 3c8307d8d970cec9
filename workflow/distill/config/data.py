"""The config's `data` section: where instructions, evaluation sets and plain text come from, and how they are cut."""

from typing import Annotated, Literal

from pydantic import Field

from distill.config.base import Section
from distill.config.sources import FileSource, HubSource, Source, SumsSource, TextSource, WorldSource


class SplitSource(Section):
    """Rows held out of `data.instructions` by the seeded split."""

    kind: Literal["split"] = Field("split", description="`split`: cut from data.instructions.")
    rows: int = Field(ge=1, description="Size of the held-out part; at least 1 (paper: 500 test and 1,000 dev rows).")


class Dev(Section):
    """What dev has besides its source."""

    leave_out: list[str] = Field(
        [],
        description="Test sets whose prompts are taken out of dev; a prompt that dev shares with another one is an "
        "error there. Only sets named here can change dev, and so what is trained.",
    )


class SplitDev(Dev, SplitSource):
    """Dev held out of `data.instructions` by the seeded split."""


class FileDev(Dev, FileSource):
    """Dev from a local file."""


class HubDev(Dev, HubSource):
    """Dev from a Hugging Face dataset."""


class SumsDev(Dev, SumsSource):
    """Dev of the task sums."""


Validation = Annotated[SplitDev | SumsDev | FileDev | HubDev, Field(discriminator="kind")]


class Evaluated(Section):
    """What an evaluation set has besides its source."""

    metric: str = Field(
        "rouge_l",
        description="What scores its answers: the name of a file of workflow/distill/metrics (paper: rouge_l).",
    )
    max_new_tokens: int | None = Field(
        None, ge=1, description="Longest response to it in tokens; at least 1; null takes generation.max_new_tokens."
    )


class SplitTest(Evaluated, SplitSource):
    """A test set held out of `data.instructions` by the seeded split."""


class WorldTest(Evaluated, WorldSource):
    """A test set of the embedded world."""


class SumsTest(Evaluated, SumsSource):
    """A test set of the task sums."""

    metric: str = Field("last_digit", description="What scores its answers; see the other kinds.")


class PreferenceTest(Evaluated):
    """The prompts of the preference pairs' test set, which no pair of train and dev has."""

    kind: Literal["preferences"] = Field("preferences", description="`preferences`: the test prompts of its pairs.")
    metric: str = Field("concepts", description="What scores its answers; see the other kinds.")


class FileTest(Evaluated, FileSource):
    """A test set from a local file."""


class HubTest(Evaluated, HubSource):
    """A test set from a Hugging Face dataset."""


Test = Annotated[SplitTest | WorldTest | SumsTest | PreferenceTest | FileTest | HubTest, Field(discriminator="kind")]


class Data(Section):
    """Instructions with their split, evaluation sets, plain text, and the prompt."""

    instructions: Source = Field(
        default_factory=lambda: WorldSource(rows=4500),
        description="The instruction data D (Dolly's schema) that train is cut from, and dev and test of kind split. "
        "kind: world, sums, file or hub (paper, training section: databricks-dolly-15k).",
    )
    train_rows: int | None = Field(
        None,
        ge=1,
        description="Train on the first so many rows of the shuffled rest; null takes all (paper: about 11.4k).",
    )
    labelled_rows: int | None = Field(
        # Fewer than the teacher has, so that there is something to distil; real data is nobody's testbed.
        default_factory=lambda data: (
            min(500, data.get("train_rows") or 500) if isinstance(data.get("instructions"), WorldSource) else None
        ),
        ge=1,
        description="Rows of train whose responses students learn from (phase 1, sft, kd): the first so many; null "
        "takes all (paper). The teacher learns from all of train; runs that distil also get the prompts of "
        "teacher_samples.prompts. Left out: at most 500 of the embedded world, "
        "all of other instructions.",
    )
    dev: Validation = Field(
        default_factory=lambda: SplitDev(rows=200),
        description="The validation set that selects checkpoints (test sets never do); kind: split, sums, file or hub.",
    )
    evaluation: dict[str, Test] = Field(
        default_factory=lambda: dict[str, Test](
            dolly=SplitTest(rows=300), self_inst=WorldTest(rows=300), vicuna=WorldTest(rows=300)
        ),
        min_length=1,
        description="The test sets by name (paper, evaluation section: DollyEval 500, SelfInst 252, Vicuna 80). "
        "At most one of kind split; kind preferences takes the prompts of its test pairs.",
    )
    plain_text: TextSource | None = Field(
        default_factory=lambda: WorldSource(rows=12000),
        description="Plain text of the language-modelling term L_PT and of pretraining (paper: OpenWebText); null if "
        "no run uses it.",
    )
    world_seed: int = Field(
        0, ge=0, description="Seed of the embedded world's facts and wordings, and of the sums; at least 0."
    )
    split_seed: int = Field(42, ge=0, description="Seed of the shuffle before the split; at least 0.")
    wrapper: Literal["alpaca", "bd_fig3", "minillm_qwen", "short", "bare"] = Field(
        "short",
        description="Prompt wrapper: alpaca (MiniLLM's templates), bd_fig3 (the paper's Figure 3), minillm_qwen, "
        "short (a few tokens, for tiny models), or bare (nothing around the instruction).",
    )
    max_prompt_tokens: int = Field(
        64, ge=1, description="Rows with a longer wrapped prompt are dropped (paper: 256); at least 1."
    )
    max_total_tokens: int = Field(
        128, ge=2, description="Rows with prompt + response + EOS above this are dropped (paper: 512); at least 2."
    )
    plain_text_tokens: int = Field(
        64, ge=2, description="Length of a plain-text chunk in tokens (paper: 512); at least 2."
    )
