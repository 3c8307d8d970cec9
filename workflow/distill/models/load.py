"""Loading and saving of models: safetensors only, no remote code."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
)
from transformers.utils import logging

from distill.errors import DistillError, ModelError
from distill.models.folders import check_kind, copy_tokenizer_files, read_tensor_shapes
from distill.models.vocabulary import agree_on_special_ids

LOCAL_ONLY = {"local_files_only": True, "trust_remote_code": False}


def quiet() -> None:
    """Keeps bars and reports of transformers off a terminal, where one line says what is wrong with a model."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def load_model(folder: Path, dtype: str = "float32") -> PreTrainedModel:
    """Loads a causal language model from a local folder's safetensors, in evaluation mode, on the CPU.

    Args:
        folder: Hugging Face folder with `config.json` and safetensors.
        dtype: name of a torch type, e.g. float32 or bfloat16.

    Raises:
        ModelError: no whole model of transformers' own, weights missing, cut short or damaged, or not those of the
            config.
    """
    folder = Path(folder)
    check_kind(folder)
    shapes = read_tensor_shapes(folder)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), use_safetensors=True, output_loading_info=True, **LOCAL_ONLY
        )
    except (DistillError, MemoryError):
        raise
    except Exception as error:  # what a config makes the library stumble over has no common class
        found = f"{type(error).__name__}: {error}"
        raise ModelError(f"{folder}: expected a model that transformers can load, found {found}; fix it") from error
    model, info = loaded  # a pair, which the library's types leave out
    if info["missing_keys"]:
        raise ModelError(
            f"{folder}: expected {len(info['missing_keys'])} more tensors of {folder / 'config.json'} (first "
            f"{min(info['missing_keys'])}), found {len(shapes)} others; copy the whole folder again or fix its config"
        )
    return model


def save_model(model: PreTrainedModel, tokenizer_folder: Path, output: Path) -> None:
    """Writes a model folder: safetensors, config, generation config, and the tokenizer's files.

    The generation config holds EOS, pad and BOS only, and agrees with config and tokenizer; an unset pad is EOS. Equal
    weights give equal bytes.

    Raises:
        ModelError: the model's EOS or pad is not the tokenizer's.
    """
    eos_id, pad_id = special_ids_of(model, tokenizer_folder)
    ids = {"eos_token_id": eos_id, "pad_token_id": pad_id, "bos_token_id": model.config.bos_token_id}
    model.config.update(ids)
    # A hub model's own sampling defaults (temperature, penalties) would silently become those of an engine.
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(output)
    copy_tokenizer_files(Path(tokenizer_folder), Path(output))


def special_ids_of(model: PreTrainedModel, tokenizer_folder: Path) -> tuple[int, int]:
    """Returns (EOS id, pad id) on which a model and the tokenizer agree; see `agree_on_special_ids`."""
    declared = {"the model's config": model.config.to_dict()}
    if model.generation_config is not None:
        declared["its generation config"] = model.generation_config.to_dict()
    return agree_on_special_ids(Path(tokenizer_folder), declared)
