"""Model folders on disk, checked without loading a model: nothing is unpickled, no code of theirs runs."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from distill.errors import ModelError
from distill.files import parse_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

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


_AGAIN = "copy or download the whole folder again, or rerun the rule that makes it"
_ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_EXPONENTS = {"F64": ("<u8", 0x7FF << 52), "F32": ("<u4", 0x7F8 << 20), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
"""By type: the bits of a number, and those that are all set in NaN and infinity only."""
_BLOCK_BYTES = 2**24


def read_model_json(path: Path) -> dict[str, Any]:
    """Returns the object in one of a model folder's JSON files.

    Raises:
        ModelError: the file is missing or holds no JSON object.
    """
    try:
        found = parse_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelError(f"{path}: expected a JSON file, found none; {_AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: expected JSON, found {error}; {_AGAIN}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(found).__name__}; {_AGAIN}")
    return found


def check_kind(folder: Path) -> None:
    """Refuses by name what is no whole model of transformers' own.

    Raises:
        ModelError: an adapter, or an architecture that comes with code of its own.
    """
    if adapter := next((name for name in _ADAPTERS if (folder / name).is_file()), None):
        raise ModelError(
            f"{folder}: expected a whole model, found {adapter}, an adapter of another one; merge it first: "
            "peft.AutoPeftModelForCausalLM.from_pretrained(folder).merge_and_unload().save_pretrained(other_folder), "
            "and give that folder with the base model's tokenizer in it"
        )
    config = read_model_json(folder / "config.json")
    if "auto_map" in config:
        from transformers import CONFIG_MAPPING  # a second, which only such a model costs

        if config.get("model_type") not in CONFIG_MAPPING:
            raise ModelError(
                f"{folder / 'config.json'}: expected an architecture that transformers has itself, found auto_map to "
                "code in the folder, which is never run; give a Qwen2, Llama, GPT-2 or OPT model"
            )


def read_header(path: Path) -> dict[str, dict]:
    """Returns a safetensors file's header {key: {dtype, shape, data_offsets}} after checking the file's length."""
    found = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if found < 8 + length:
            raise ModelError(f"{path}: expected at least {8 + length} bytes, found {found}: truncated; {_AGAIN}")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            expected = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        except (ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise ModelError(f"{path}: expected a safetensors header, found other bytes; {_AGAIN}") from error
    if found != expected:
        raise ModelError(f"{path}: expected {expected} bytes for {len(header)} tensors, found {found}; {_AGAIN}")
    try:
        with safe_open(path, "numpy"):  # types, shapes and places fit
            return header
    except SafetensorError as error:
        raise ModelError(f"{path}: expected a safetensors header, found one with {error}; {_AGAIN}") from error


def weight_files(folder: Path) -> dict[str, set[str] | None]:
    """Returns a folder's safetensors files by name, as transformers picks them: the single file before the shards.

    The value is the tensors that the index of shards has there; None for the single file, of which all count.

    Raises:
        ModelError: there are none, or the index is no {"weight_map": {tensor: file beside it}}.
    """
    is_single = (folder / WEIGHTS).is_file()
    if not is_single and not (folder / INDEX).is_file():
        pickles = sorted(path.name for path in folder.glob("*") if path.suffix in _PICKLES)
        raise ModelError(
            f"{folder}: expected weights in {WEIGHTS}, found {', '.join(pickles) or 'none'}; other formats are not "
            "read, and pickles can run code: where you trust their maker convert them with "
            "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder), or name a revision with safetensors"
        )
    if not (folder / INDEX).is_file():
        return {WEIGHTS: None}
    weight_map = read_model_json(folder / INDEX).get("weight_map")
    files: dict[str, set[str] | None] = {}
    for tensor, name in weight_map.items() if isinstance(weight_map, dict) else ():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(
                f"{folder / INDEX}: expected safetensors files beside it as the places of tensors, found {name!r}; "
                f"{_AGAIN}"
            )
        files.setdefault(name, set()).add(tensor)  # type: ignore[union-attr]
    if not files:
        raise ModelError(f"{folder / INDEX}: expected weight_map with tensors, found none; {_AGAIN}")
    return {WEIGHTS: None} if is_single else dict(sorted(files.items()))


def read_tensor_shapes(folder: Path) -> dict[str, list[int]]:
    """Returns {tensor name: shape} of a model folder's safetensors files, from their headers.

    Raises:
        ModelError: no safetensors weights, a file cut short or damaged, or a tensor of the shard index missing.
    """
    shapes = {}
    for name, listed in weight_files(folder).items():
        path = folder / name
        if not path.is_file():
            raise ModelError(
                f"{path}: expected this shard of {folder / INDEX}, found none; copy the whole folder again"
            )
        header = read_header(path)
        keys = header.keys() if listed is None else listed
        if missing := sorted(keys - header.keys()):
            raise ModelError(
                f"{path}: expected {len(keys)} tensors of {folder / INDEX}, found {len(keys) - len(missing)} "
                f"(without {missing[0]}); copy the whole folder again"
            )
        shapes.update({key: header[key]["shape"] for key in keys})
    return shapes


def check_finite(folder: Path) -> None:
    """Reads all weights once; a model with NaN or infinity answers with nothing, and trains to nothing.

    Raises:
        ModelError: a tensor has such a number.
    """
    for name in weight_files(folder):
        header = read_header(folder / name)
        begin = (folder / name).stat().st_size - max((e["data_offsets"][1] for e in header.values()), default=0)
        with open(folder / name, "rb") as file:
            for tensor, entry in header.items():
                first, end = entry["data_offsets"]
                bits, exponent = _EXPONENTS.get(entry["dtype"], ("u1", 0))
                file.seek(begin + first)
                for start in range(first, end if exponent else first, _BLOCK_BYTES):
                    block = np.frombuffer(file.read(min(_BLOCK_BYTES, end - start)), bits)
                    if (block & block.dtype.type(exponent) == exponent).any():
                        raise ModelError(
                            f"{folder / name}: expected finite numbers in the tensor {tensor}, found NaN or infinity; "
                            "copy or download the file again, or give another checkpoint"
                        )


def check_structure(folder: Path) -> int:
    """Checks config and tensors of a model folder against each other; returns the number of embedding rows.

    Raises:
        ModelError: see `check_kind` and `read_tensor_shapes`, or another vocabulary size or number of layers than the
            config's.
    """
    check_kind(folder)
    config = read_model_json(folder / "config.json")
    shapes = read_tensor_shapes(folder)
    found = {
        "vocab_size": next((shape[0] for key, shape in sorted(shapes.items()) if shape and EMBEDDING.search(key)), 0),
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


def check_positions(folder: Path, tokens: int, key: str) -> None:
    """Checks that a model has a position for each token of a sequence; a forward pass ends in an index error else.

    Args:
        folder: the model.
        tokens: of the longest sequence.
        key: of the config that says so.

    Raises:
        ModelError: the config names fewer positions.
    """
    config = read_model_json(folder / "config.json")
    positions = config.get("max_position_embeddings", config.get("n_positions"))
    if isinstance(positions, int) and tokens > positions:
        raise ModelError(
            f"{key}: expected at most {positions} tokens, the positions of {folder}, found {tokens}; lower it or give "
            "a model of more positions"
        )


def copy_tokenizer_files(source: Path, target: Path) -> None:
    """Copies the tokenizer's files, and nothing else, from one folder into another."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
