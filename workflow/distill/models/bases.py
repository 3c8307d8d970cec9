"""Base models before any fine-tuning: given, pruned, or new."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GgufConfig,
    GPT2Config,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from distill.config.base_models import PrunedModel, ScratchModel
from distill.config.given_models import FolderModel, HubModel
from distill.errors import ModelError
from distill.models.layers import drop_layers
from distill.models.load import LOCAL_ONLY, load_model, special_ids_of
from distill.models.locate import locate
from distill.models.vocabulary import agree_on_special_ids, read_vocabulary, tokenizer_size

MAX_POSITIONS = 1024


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
        assert teacher_base is not None, "a pruned model is made of the teacher's base"
        return drop_layers(load_model(teacher_base), spec.drop_layers)
    folder = locate(spec)
    model = (
        _load_gguf(folder, spec.gguf_file) if isinstance(spec, FolderModel) and spec.gguf_file else load_model(folder)
    )
    special_ids_of(model, tokenizer_folder)
    size = tokenizer_size(read_vocabulary(Path(tokenizer_folder)))
    if len(model.get_output_embeddings().weight) > size:
        model.resize_token_embeddings(size)
    return model


def _load_gguf(folder: Path, name: str) -> PreTrainedModel:
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32, **LOCAL_ONLY
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
    common: dict[str, Any] = dict(vocab_size=vocabulary_size, bos_token_id=eos_id, eos_token_id=eos_id)
    common["pad_token_id"] = pad_id
    width, layers, heads, spread = spec.hidden_size, spec.layers, spec.heads, spec.initializer_range
    config: PreTrainedConfig
    if spec.architecture == "gpt2":
        common |= dict(n_embd=width, n_layer=layers, n_head=heads, n_positions=MAX_POSITIONS, initializer_range=spread)
        config = GPT2Config(**common, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    else:
        common |= dict(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads)
        common["max_position_embeddings"] = MAX_POSITIONS
        if spec.architecture == "opt":
            config = OPTConfig(**common, ffn_dim=4 * width, word_embed_proj_dim=width, init_std=spread, dropout=0.0)
        else:
            common |= dict(intermediate_size=3 * width, num_key_value_heads=heads, initializer_range=spread)
            config = Qwen2Config(**common, tie_word_embeddings=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)
