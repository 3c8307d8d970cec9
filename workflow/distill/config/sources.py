"""Where rows come from: a generator (the embedded world, sums), a local file, a dataset of the hub."""

from typing import Annotated, Literal

from pydantic import Field

from distill.config.base import Revision, Section


class GeneratedSource(Section):
    """Rows made by a seeded generator: no hub, no download."""

    kind: str
    rows: int = Field(ge=1, description="How many rows (documents for plain text) to generate; at least 1.")


class WorldSource(GeneratedSource):
    """A part of the embedded world."""

    kind: Literal["world"] = Field("world", description="`world`: the embedded world's generator.")


class SumsSource(GeneratedSource):
    """Prompts such as 3+7+5+2=, whose answer is the last digit of the sum; train, dev and test share none."""

    kind: Literal["sums"] = Field("sums", description="`sums`: the generator of sums, an evaluation set named `sums`.")
    digits: Literal[3, 4] = Field(
        4,
        description="How many digits are added: 3 (909 prompts for train, 30 for dev, 61 for test) or 4 (9,091, 300 "
        "and 609).",
    )


class SumsText(SumsSource):
    """Documents of sums: half ask with `?` and are worked out, half ask with `=` and are answered at once."""

    worked_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the answers after `=` that are worked out, too: the larger, the closer a student is to "
        "a teacher that works out all; in [0, 1].",
    )


class FileSource(Section):
    """A local file: JSONL rows in Dolly's schema, or for plain text JSONL {"text"} or a .txt file."""

    kind: Literal["file"] = Field("file", description="`file`: a local file.")
    path: str = Field(description="Path of the file; `${NAME}` is taken from the environment.")
    rows: int | None = Field(None, ge=1, description="Use only the first so many rows; null takes all.")
    held_out_of_train: bool = Field(
        False,
        description="Drop training rows whose prompt occurs here: for a set that was cut from the training "
        "data itself, as MiniLLM's Dolly split.",
    )


class HubSource(Section):
    """A data file of a Hugging Face dataset at a pinned revision."""

    kind: Literal["hub"] = Field("hub", description="`hub`: a Hugging Face dataset repository.")
    repository: str = Field(description="Dataset repository, e.g. databricks/databricks-dolly-15k.")
    revision: Revision = Field(description="Pinned commit of the repository: 40 hexadecimal digits.")
    split: str = Field("train", description="The dataset's split to read.")
    rows: int | None = Field(None, ge=1, description="Use only the first so many rows; null takes all.")
    held_out_of_train: bool = Field(False, description="As for a local file.")


Source = Annotated[WorldSource | SumsSource | FileSource | HubSource, Field(discriminator="kind")]

TextSource = Annotated[WorldSource | SumsText | FileSource | HubSource, Field(discriminator="kind")]
