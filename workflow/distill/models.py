"""Base models, loading, saving and pruning, and states of packed sequences: safetensors only, no remote code."""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GgufConfig,
    GPT2Config,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from distill.attention import PACKED, packed_arguments
from distill.config.models import FolderModel, HubModel, PrunedModel, ScratchModel
from distill.data.packing import PackedBatch
from distill.errors import ModelError
from distill.losses.states import ChunkLogits, States
from distill.model_folders import (
    agree_on_special_ids,
    copy_tokenizer_files,
    locate,
    read_tensor_shapes,
    read_vocabulary,
    tokenizer_size,
)

MAX_POSITIONS = 1024
_LOCAL = {"local_files_only": True, "trust_remote_code": False}


def load_model(folder: Path, dtype: str = "float32") -> PreTrainedModel:
    """Loads a causal language model from a local folder's safetensors, in evaluation mode, on the CPU.

    Args:
        folder: Hugging Face folder with `config.json` and safetensors.
        dtype: name of a torch type, e.g. float32 or bfloat16.

    Raises:
        ModelError: weights missing, cut short or damaged, or not those of the config.
    """
    folder = Path(folder)
    shapes = read_tensor_shapes(folder)
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), use_safetensors=True, output_loading_info=True, **_LOCAL
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{folder}: expected a model that transformers can load, found: {error}; mend the folder"
        ) from error
    if info["missing_keys"]:
        raise ModelError(
            f"{folder}: expected {len(info['missing_keys'])} more tensors of {folder / 'config.json'} (first "
            f"{min(info['missing_keys'])}), found {len(shapes)} others; copy the whole folder again or mend its config"
        )
    return model


def save_model(model: PreTrainedModel, tokenizer_folder: Path, output: Path) -> None:
    """Writes a model folder: safetensors, config, generation config, and the tokenizer's files.

    The generation config holds EOS, pad and BOS only, and agrees with config and tokenizer; an unset pad is EOS. Equal
    weights give equal bytes.

    Raises:
        ModelError: the model's EOS or pad is not the tokenizer's.
    """
    eos_id, pad_id = _special_ids(model, tokenizer_folder)
    ids = {"eos_token_id": eos_id, "pad_token_id": pad_id, "bos_token_id": model.config.bos_token_id}
    model.config.update(ids)
    # A hub model's own sampling defaults (temperature, penalties) would silently become those of an engine.
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(output)
    copy_tokenizer_files(Path(tokenizer_folder), Path(output))


def _special_ids(model: PreTrainedModel, tokenizer_folder: Path) -> tuple[int, int]:
    declared = {"the model's config": model.config.to_dict()}
    if model.generation_config is not None:
        declared["its generation config"] = model.generation_config.to_dict()
    return agree_on_special_ids(Path(tokenizer_folder), declared)


def build_base(
    spec: HubModel | FolderModel | ScratchModel | PrunedModel,
    tokenizer_folder: Path,
    vocabulary_size: int,
    seed: int,
    teacher_base: Path | None = None,
) -> PreTrainedModel:
    """Returns a base model in float32, before any training, without embedding rows that no token can name.

    Args:
        spec: the config's `models.teacher` or `models.student`.
        tokenizer_folder: folder of the study's tokenizer, which gives EOS and pad.
        vocabulary_size: embedding rows of a scratch model.
        seed: seed of a scratch model's weights; the global random state is neither used nor changed.
        teacher_base: folder of the teacher's base, of which a pruned model is made.

    Raises:
        ModelError: the model cannot be had, or its EOS or pad is not the tokenizer's.
    """
    if isinstance(spec, ScratchModel):
        return _scratch(spec, *agree_on_special_ids(Path(tokenizer_folder), {}), vocabulary_size, seed)
    if isinstance(spec, PrunedModel):
        return drop_layers(load_model(teacher_base), spec.drop_layers)
    folder = locate(spec)
    model = (
        _load_gguf(folder, spec.gguf_file) if isinstance(spec, FolderModel) and spec.gguf_file else load_model(folder)
    )
    _special_ids(model, tokenizer_folder)
    size = tokenizer_size(read_vocabulary(Path(tokenizer_folder)))
    if model.get_input_embeddings().num_embeddings > size:
        model.resize_token_embeddings(size)
    return model


def _load_gguf(folder: Path, name: str) -> PreTrainedModel:
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32, **_LOCAL
        )
    except Exception as error:  # a file cut short meets struct, numpy, key and value errors alike
        raise ModelError(
            f"{folder / name}: expected a whole GGUF file of an architecture that transformers reads, found: {error}; "
            "copy the file again, or give a safetensors folder"
        ) from error
    # transformers still calls the dequantised model quantised and refuses to save it: move the weights to a plain one.
    values = {key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"}
    model = AutoModelForCausalLM.from_config(type(loaded.config).from_dict(values), dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    return model.eval()


def _scratch(spec: ScratchModel, eos_id: int, pad_id: int, vocabulary_size: int, seed: int) -> PreTrainedModel:
    """Returns a random model: tied embeddings, no dropout, inner width 4x (3x for Qwen2, which has a third matrix)."""
    common = dict(vocab_size=vocabulary_size, bos_token_id=eos_id, eos_token_id=eos_id, pad_token_id=pad_id)
    width, layers, heads, spread = spec.hidden_size, spec.layers, spec.heads, spec.initializer_range
    config: PreTrainedConfig
    if spec.architecture == "gpt2":
        shape = dict(n_embd=width, n_layer=layers, n_head=heads, n_positions=MAX_POSITIONS, initializer_range=spread)
        config = GPT2Config(**shape, **common, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    else:
        shape = dict(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads)
        shape["max_position_embeddings"] = MAX_POSITIONS
        if spec.architecture == "opt":
            shape |= dict(ffn_dim=4 * width, word_embed_proj_dim=width, init_std=spread)
            config = OPTConfig(**shape, **common, dropout=0.0)
        else:
            shape |= dict(intermediate_size=3 * width, num_key_value_heads=heads, initializer_range=spread)
            config = Qwen2Config(**shape, **common, tie_word_embeddings=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


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
        return States(*self(batch.input_ids, batch.sequence_lengths, batch.rows), self.vocabulary)

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
