"""Where rows come from: the embedded world, a local file, a dataset of the hub."""

from typing import Annotated, Literal

from pydantic import Field

from distill.config.base import Revision, Section


class WorldSource(Section):
    """A part of the embedded world, made by a seeded generator: no hub, no download."""

    kind: Literal["world"] = Field("world", description="`world`: the embedded world's generator.")
    rows: int = Field(ge=1, description="How many rows (documents for plain text) to generate; at least 1.")


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


Source = Annotated[WorldSource | FileSource | HubSource, Field(discriminator="kind")]
