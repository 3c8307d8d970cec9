"""All kinds of base models, those that the study makes itself among them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from distill.config.base import Section
from distill.config.given_models import FolderModel, HubModel
from distill.config.training import Training

Architecture = Literal["qwen2", "gpt2", "opt"]


class ScratchModel(Section):
    """A new model of a given shape, pretrained briefly on data.plain_text."""

    kind: Literal["scratch"] = Field("scratch", description="`scratch`: a fresh model, pretrained on data.plain_text.")
    architecture: Architecture = Field("qwen2", description="Architecture: qwen2, gpt2 or opt.")
    hidden_size: int = Field(160, ge=8, description="Model width; a multiple of `heads`, at least 8.")
    layers: int = Field(4, ge=1, description="Number of transformer blocks; at least 1.")
    heads: int = Field(4, ge=1, description="Attention heads; at least 1.")
    initializer_range: float = Field(
        0.06,
        gt=0,
        description="Standard deviation of fresh weights; above 0. Narrow models want more than the usual 0.02.",
    )
    documents: Literal["joined", "apart"] = Field(
        "joined",
        description="Plain text in pretraining: joined (documents end to end, cut into chunks of "
        "data.plain_text_tokens) or apart (each document a sequence of its own, cut behind so many tokens).",
    )
    pretraining: Training = Field(description="How the fresh model is pretrained on plain text.")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ScratchModel":
        if self.hidden_size % (2 * self.heads):
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of 2 x heads ({2 * self.heads})")
        return self


class PrunedModel(Section):
    """The teacher's base model with some blocks taken out; student only."""

    kind: Literal["pruned"] = Field("pruned", description="`pruned`: the teacher's base without some of its layers.")
    drop_layers: list[int] = Field(min_length=1, description="Indices (from 0) of the layers to take out.")


TeacherModel = Annotated[HubModel | FolderModel | ScratchModel, Field(discriminator="kind")]

StudentModel = Annotated[HubModel | FolderModel | ScratchModel | PrunedModel, Field(discriminator="kind")]
