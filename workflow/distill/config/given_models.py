"""Base models that are given: of the hub, or of a local folder."""

from typing import Literal

from pydantic import Field

from distill.config.base import Revision, Section


class HubModel(Section):
    """A model of the Hugging Face Hub at a pinned revision."""

    kind: Literal["hub"] = Field("hub", description="`hub`: a model repository on the Hugging Face Hub.")
    repository: str = Field(description="Model repository, e.g. Qwen/Qwen2.5-0.5B.")
    revision: Revision = Field(description="Pinned commit of the repository: 40 hexadecimal digits.")


class FolderModel(Section):
    """A local Hugging Face folder, or a GGUF file in a local folder."""

    kind: Literal["folder"] = Field("folder", description="`folder`: a local model folder.")
    path: str = Field(
        description="Folder with config, safetensors and tokenizer; `${NAME}` is taken from the environment."
    )
    gguf_file: str | None = Field(None, description="Name of a GGUF file in the folder to read instead of safetensors.")
