"""The transformer blocks of a model."""

from torch import nn
from transformers import (
    PreTrainedModel,
)

from distill.errors import ModelError


def _blocks(model: PreTrainedModel) -> tuple[nn.Module, str]:
    """Returns the module that holds the transformer blocks and the name of its list: `layers`, or GPT-2's `h`."""
    holder = getattr(model.base_model, "decoder", model.base_model)
    return holder, "h" if hasattr(holder, "h") else "layers"


def count_layers(model: PreTrainedModel) -> int:
    """Returns the number of transformer blocks."""
    return len(getattr(*_blocks(model)))


def drop_layers(model: PreTrainedModel, drop: list[int]) -> PreTrainedModel:
    """Takes blocks out of a model in place, renumbers the rest (key-value caches go by number), and returns it.

    Raises:
        ModelError: an index is out of range, or no layer is left.
    """
    total = count_layers(model)
    kept = [index for index in range(total) if index not in drop]
    if not kept or any(not 0 <= index < total for index in drop):
        raise ModelError(
            f"models.student.drop_layers: expected some of the layers 0 to {total - 1} of the teacher's base, "
            f"found {drop}; change the list"
        )
    holder, name = _blocks(model)
    blocks = getattr(holder, name)
    setattr(holder, name, nn.ModuleList(blocks[index] for index in kept))
    for number, index in enumerate(kept):
        for module in blocks[index].modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = number
    model.config.num_hidden_layers = len(kept)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[index] for index in kept]
    return model
