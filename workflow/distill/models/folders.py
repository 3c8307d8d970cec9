"""Model folders on disk, checked without loading a tensor."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from distill.errors import DataError, ModelError
from distill.files import read_json

INDEX = "model.safetensors.index.json"

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)

EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte)\.weight$")

_BLOCK = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.")


def read_model_json(path: Path) -> Any:
    """Returns the content of one of a model folder's JSON files.

    Raises:
        ModelError: the file is missing or not JSON.
    """
    try:
        return read_json(path)
    except DataError as error:
        raise ModelError(str(error)) from error


def read_header(path: Path) -> dict[str, dict]:
    """Returns a safetensors file's header {key: {dtype, shape, data_offsets}} after checking the file's length."""
    found = path.stat().st_size
    fix = "copy or download the file again, or rerun the rule that makes it"
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if found < 8 + length:
            raise ModelError(f"{path}: expected at least {8 + length} bytes, found {found}: truncated; {fix}")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            expected = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        except (ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
            raise ModelError(f"{path}: expected a safetensors header, found other bytes; {fix}") from error
    if found != expected:
        raise ModelError(f"{path}: expected {expected} bytes for {len(header)} tensors, found {found}; {fix}")
    return header


def read_tensor_shapes(folder: Path) -> dict[str, list[int]]:
    """Returns {tensor name: shape} of a model folder's safetensors files, from their headers.

    Raises:
        ModelError: no safetensors weights, a file cut short or damaged, or a tensor of the shard index missing.
    """
    if (folder / INDEX).is_file():
        weight_map = read_model_json(folder / INDEX)["weight_map"]
    elif (folder / "model.safetensors").is_file():
        weight_map = dict.fromkeys(read_header(folder / "model.safetensors"), "model.safetensors")
    else:
        raise ModelError(
            f"{folder}: expected weights in model.safetensors, found none; other formats are not read: convert with "
            "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder), or name a revision with safetensors"
        )
    shapes = {}
    for name in sorted(set(weight_map.values())):
        path = folder / name
        if not path.is_file():
            raise ModelError(
                f"{path}: expected this shard of {folder / INDEX}, found none; copy the whole folder again"
            )
        keys = [key for key, file in weight_map.items() if file == name]
        header = read_header(path)
        if missing := sorted(set(keys) - set(header)):
            raise ModelError(
                f"{path}: expected {len(keys)} tensors of {folder / INDEX}, found {len(keys) - len(missing)} "
                f"(without {missing[0]}); copy the whole folder again"
            )
        shapes.update({key: header[key]["shape"] for key in keys})
    return shapes


def check_structure(folder: Path) -> int:
    """Checks config and tensors of a model folder against each other; returns the number of embedding rows.

    Raises:
        ModelError: unreadable config or weights, or another vocabulary size or number of layers than the config's.
    """
    config = read_model_json(folder / "config.json")
    shapes = read_tensor_shapes(folder)
    found = {
        "vocab_size": next((shape[0] for key, shape in sorted(shapes.items()) if EMBEDDING.search(key)), 0),
        "num_hidden_layers": len({match[1] for key in shapes if (match := _BLOCK.search(key))}),
    }
    expected = {
        "vocab_size": config.get("vocab_size"),
        "num_hidden_layers": config.get("num_hidden_layers", config.get("n_layer")),
    }
    for name, value in expected.items():
        if value != found[name]:
            raise ModelError(
                f"{folder / 'config.json'}: expected {name} to be {found[name]} as in the weights, found {value}; "
                "give a Qwen2, Llama, GPT-2 or OPT folder whose config and weights belong together"
            )
    return found["vocab_size"]


def copy_tokenizer_files(source: Path, target: Path) -> None:
    """Copies the tokenizer's files, and nothing else, from one folder into another."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
