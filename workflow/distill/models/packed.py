"""States of packed sequences, before their logits."""

import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
)

from distill.errors import ModelError
from distill.losses.states import ChunkLogits, States
from distill.models.attention import PACKED, packed_arguments
from distill.models.packing import PackedBatch


class PackedModel(nn.Module):
    """A causal language model that reads packed sequences and stops at the states a loss needs, before their logits.

    The model itself still generates and reads padded batches as before, with logits rounded to its type.

    Args:
        model: a causal language model whose `base_model` returns what its output embeddings take: Qwen2, Llama, GPT-2,
            and OPT, whose decoder already applies OPT-350m's final projection.
        vocabulary: logits are the first so many, since embedding matrices can have rows that no token names; None
            keeps all.

    Raises:
        ModelError: the model's attention is not plain causal softmax, or its logits are not a plain matrix product.
    """

    def __init__(self, model: PreTrainedModel, vocabulary: int | None = None):
        super().__init__()
        if odd := _oddities(model):
            raise ModelError(
                f"{type(model).__name__}: expected causal softmax attention and an output matrix alone, found "
                f"{', '.join(odd)}; choose a model of another family, e.g. qwen2, llama, gpt2 or opt"
            )
        model.set_attn_implementation(PACKED)
        self.model = model
        self.vocabulary = vocabulary or len(model.get_output_embeddings().weight)
        self._window = _sliding_window(model.config)

    def enable_gradient_checkpointing(self) -> None:
        """Recomputes activations in the backward pass of training mode instead of keeping them."""
        self.model.gradient_checkpointing_enable({"use_reentrant": False})

    def disable_dropout(self) -> None:
        """Turns every dropout of training mode off, whole layers' too; the model's config, which is saved, keeps them.

        Training mode stays, since transformers recomputes activations in no other.
        """
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            # Rates that a layer hands to a function: attention_dropout, OPT's dropout and layerdrop.
            for name, value in vars(module).items():
                if "drop" in name and isinstance(value, float):
                    setattr(module, name, 0.0)

    def states(self, batch: PackedBatch) -> States:
        """Returns the states of a batch, as `forward` does."""
        hidden, weight = self(batch.input_ids, batch.sequence_lengths, batch.rows)
        return States(hidden, weight, self.vocabulary)

    @torch.no_grad()
    def next_logits(self, **inputs: object) -> Tensor:
        """Returns the logits behind the last tokens of a padded batch, (batch, `vocabulary`), in float32 at least.

        Args:
            inputs: what the base model takes: `input_ids`, masks, positions, a cache.
        """
        hidden = self.model.base_model(**inputs)[0][:, -1]
        states = States(hidden, self.model.get_output_embeddings().weight, self.vocabulary)
        everything = slice(0, len(states))
        return ChunkLogits(states, [everything])[everything]

    def forward(self, input_ids: Tensor, sequence_lengths: tuple[int, ...], rows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns hidden states (N, width) and output embeddings (`vocabulary` or more, width), in the model's type.

        Args:
            input_ids: (T,) int64, sequences laid end to end.
            sequence_lengths: tokens of each, T in all.
            rows: (N,) int64, the places of the tokens whose successors are predicted.

        Raises:
            ModelError: a sequence is longer than the model's sliding window.
        """
        if self._window and max(sequence_lengths) > self._window:
            raise ModelError(
                f"{type(self.model).__name__}: expected sequences within its sliding window of {self._window} tokens, "
                f"found one of {max(sequence_lengths)}; shorten the sequences or choose a model without a window"
            )
        embedding, weight = self.model.get_input_embeddings(), self.model.get_output_embeddings().weight
        if weight is embedding.weight and type(embedding) is nn.Embedding:
            embedded, alias = _TiedEmbedding.apply(weight, input_ids, embedding.padding_idx)
            source = {"inputs_embeds": embedded[None]}
        else:
            # An alias, so that hooks on a module's outputs run before an untied weight's gradient is there.
            source, alias = {"input_ids": input_ids[None]}, weight.view_as(weight)
        arguments = packed_arguments(sequence_lengths, input_ids.device)
        hidden = self.model.base_model(**source, use_cache=False, **arguments)[0]
        return hidden[0].index_select(0, rows), alias


class _TiedEmbedding(torch.autograd.Function):
    """Looks tokens up in the matrix that also forms the logits.

    Its gradient of both uses is one tensor; autograd would form one for each use, and their sum in a third.
    """

    @staticmethod
    def forward(ctx, weight: Tensor, ids: Tensor, padding_idx: int | None):
        ctx.save_for_backward(ids)
        ctx.padding_idx = padding_idx
        return weight[ids], weight.view_as(weight)

    @staticmethod
    def backward(ctx, to_embedded: Tensor, to_weight: Tensor):
        (ids,) = ctx.saved_tensors
        tokens, places = ids.unique(return_inverse=True)
        to_tokens = torch.ops.aten.embedding_dense_backward(to_embedded, places, len(tokens), -1, False)
        if ctx.padding_idx is not None:  # its row learns as an output alone, as in nn.Embedding
            to_tokens[tokens == ctx.padding_idx] = 0
        # In place, since a loss hands its gradient over; contiguous() copies only what is expanded from fewer elements.
        return to_weight.contiguous().index_add_(0, tokens, to_tokens), None, None


def _oddities(model: PreTrainedModel) -> list[str]:
    """Returns what `PackedModel` would leave out of a model."""
    found = []
    if not (model._supports_attention_backend and model._supports_sdpa):
        found.append("an attention of its own")
    kinds = set(getattr(model.config, "layer_types", None) or ())
    found += [f"{kind} layers" for kind in sorted(kinds - {"full_attention", "sliding_attention"})]
    for name in ("attn_logit_softcapping", "final_logit_softcapping", "logit_scale", "logits_scaling"):
        if (value := getattr(model.config, name, None)) not in (None, 1):
            found.append(f"{name} {value}")
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        found.append("an output bias")
    return found


def _sliding_window(config: PreTrainedConfig) -> int | None:
    """Returns how many tokens the layers with a window see; None where no layer has one."""
    slides = "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"])
    return getattr(config, "sliding_window", None) if slides else None
