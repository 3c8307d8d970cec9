"""What a Hugging Face model folder says about itself, read without torch: tensors, vocabulary, EOS and pad."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from distill.config.base import expand_path
from distill.config.models import FolderModel, HubModel
from distill.errors import DataError, ModelError
from distill.files import digest_value, read_json, write_json

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
_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte)\.weight$")
_BY_TOKEN = re.compile(rf"{_EMBEDDING.pattern}|(^|\.)lm_head\.weight$")
_BLOCK_BYTES = 2**24
_BLOCK = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.")


def locate(spec: HubModel | FolderModel) -> Path:
    """Returns the local folder of a model: the configured one, or a download of the pinned revision without any code.

    Raises:
        ModelError: no such folder or file, or the hub cannot be reached and its cache lacks the revision.
    """
    if isinstance(spec, FolderModel):
        folder = expand_path(spec.path, "models")
        wanted = folder / (spec.gguf_file or "config.json")
        if not wanted.is_file():
            raise ModelError(
                f"{wanted}: expected a model's file, found none; check path in models.teacher and models.student"
            )
        return folder
    from huggingface_hub import HfApi, snapshot_download  # a second to import, for nothing where folders are local
    from huggingface_hub.errors import HfHubHTTPError

    silence = ""  # once set, only the cache is asked: snapshot_download would retry for half a minute first
    pinned = {"repo_id": spec.repository, "revision": spec.revision}
    try:
        try:
            HfApi().model_info(**pinned, timeout=10)
        except HfHubHTTPError:
            raise
        except Exception as error:  # no answer, whatever HTTP client the hub's library uses
            silence = f"no answer ({error}) and "
        patterns = [
            "config.json",
            "generation_config.json",
            "*.safetensors",
            "*.safetensors.index.json",
            *TOKENIZER_FILES,
        ]
        return Path(snapshot_download(**pinned, allow_patterns=patterns, local_files_only=bool(silence)))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"models: expected {spec.repository} at revision {spec.revision} on the Hugging Face Hub or in its cache, "
            f"found {silence}{type(error).__name__}: {str(error).split(chr(10))[0]}; go online, or use a local copy, "
            "e.g. models.teacher: {kind: folder, path: /path/to/folder}"
        ) from error


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except DataError as error:
        raise ModelError(str(error)) from error


def _read_header(path: Path) -> dict[str, dict]:
    """Returns a safetensors file's header {key: {dtype, shape, data_offsets}} after checking the file's length."""
    found = path.stat().st_size
    mend = "copy or download the file again, or rerun the rule that makes it"
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if found < 8 + length:
            raise ModelError(f"{path}: expected at least {8 + length} bytes, found {found}: truncated; {mend}")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            expected = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        except (ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
            raise ModelError(f"{path}: expected a safetensors header, found other bytes; {mend}") from error
    if found != expected:
        raise ModelError(f"{path}: expected {expected} bytes for {len(header)} tensors, found {found}; {mend}")
    return header


def read_tensor_shapes(folder: Path) -> dict[str, list[int]]:
    """Returns {tensor name: shape} of a model folder's safetensors files, from their headers.

    Raises:
        ModelError: no safetensors weights, a file cut short or damaged, or a tensor of the shard index missing.
    """
    if (folder / INDEX).is_file():
        weight_map = _read(folder / INDEX)["weight_map"]
    elif (folder / "model.safetensors").is_file():
        weight_map = dict.fromkeys(_read_header(folder / "model.safetensors"), "model.safetensors")
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
        header = _read_header(path)
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
    config = _read(folder / "config.json")
    shapes = read_tensor_shapes(folder)
    found = {
        "vocab_size": next((shape[0] for key, shape in sorted(shapes.items()) if _EMBEDDING.search(key)), None),
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


def read_vocabulary(folder: Path) -> dict[str, int]:
    """Returns a tokenizer's {token: id}, added tokens included.

    Raises:
        ModelError: the folder has no `tokenizer.json`.
    """
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(
            f"{folder}: expected a tokenizer in tokenizer.json, found none; write it with "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    tokenizer = _read(folder / "tokenizer.json")
    vocabulary = tokenizer["model"]["vocab"]
    if not isinstance(vocabulary, dict):  # unigram models list [token, score] by id
        vocabulary = {token: id_ for id_, (token, _) in enumerate(vocabulary)}
    return vocabulary | {entry["content"]: entry["id"] for entry in tokenizer.get("added_tokens", [])}


def tokenizer_size(vocabulary: dict[str, int]) -> int:
    """Returns how many logits cover every token id: the largest id + 1."""
    return max(vocabulary.values()) + 1


def _special_id(folder: Path, role: str, vocabulary: dict[str, int]) -> int | None:
    """Returns the id of the tokenizer's `eos_token` or `pad_token`; None if it declares none."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        token = _read(folder / name).get(role) if (folder / name).is_file() else None
        if token is not None:
            content = token["content"] if isinstance(token, dict) else token
            if content not in vocabulary:
                raise ModelError(
                    f"{folder / name}: expected {role} among the vocabulary's tokens, found {content!r}; mend it"
                )
            return vocabulary[content]
    return None


def agree_on_special_ids(tokenizer_folder: Path, declared: dict[str, dict]) -> tuple[int, int]:
    """Returns (EOS id, pad id) on which tokenizer, model config and generation config agree; an unset pad is EOS.

    Args:
        tokenizer_folder: folder with `tokenizer.json` and `tokenizer_config.json`.
        declared: per place, for the message, a mapping with `eos_token_id` and `pad_token_id`; unset or None is silent.

    Raises:
        ModelError: the tokenizer declares no EOS, or two places declare different ids, or several EOS ids.
    """
    vocabulary = read_vocabulary(tokenizer_folder)
    found = {}
    for role in ("eos", "pad"):
        ids = {str(tokenizer_folder): _special_id(tokenizer_folder, f"{role}_token", vocabulary)}
        for place, values in declared.items():
            value = values.get(f"{role}_token_id")
            ids[place] = value[0] if isinstance(value, list) and len(value) == 1 else value
        told = {place: value for place, value in ids.items() if value is not None}
        if role == "eos" and ids[str(tokenizer_folder)] is None:
            raise ModelError(
                f"{tokenizer_folder / 'tokenizer_config.json'}: expected an eos_token, which ends each response, found "
                "none; add it"
            )
        if any(value != next(iter(told.values())) for value in told.values()):
            listing = ", ".join(f"{value} in {place}" for place, value in told.items())
            raise ModelError(
                f"{next(iter(declared))}: expected one {role}_token_id in tokenizer, config and generation config, "
                f"found {listing}; set {role}_token_id alike in all of them"
            )
        found[role] = next(iter(told.values()), found.get("eos"))
    return found["eos"], found["pad"]


def declared_ids(folder: Path) -> dict[str, dict]:
    """Returns the parsed `config.json` and, where there is one, `generation_config.json`, by path."""
    paths = [folder / "config.json", folder / "generation_config.json"]
    return {str(path): _read(path) for path in paths if path.is_file() or path.name == "config.json"}


def check_model(folder: Path, tokenizer_folder: Path) -> tuple[int, int, int]:
    """Checks a model folder against the study's tokenizer; returns (embedding rows, EOS id, pad id).

    Raises:
        ModelError: damaged folder, another vocabulary, fewer embedding rows than token ids, or disagreeing EOS or pad.
    """
    rows = check_structure(folder)
    own, shared = read_vocabulary(folder), read_vocabulary(tokenizer_folder)
    mend = (
        "losses compare probabilities token by token, so teacher and student need one vocabulary; give models of one "
        "family (models.teacher, models.student)"
    )
    if own != shared:
        token = min(own.items() ^ shared.items(), key=lambda item: (item[1], item[0]))[0]
        raise ModelError(
            f"{folder}: expected the vocabulary of {tokenizer_folder} with {len(shared)} tokens, found {len(own)}; the "
            f"first difference is {token!r}: id {shared.get(token, 'none')} there, {own.get(token, 'none')} here; "
            f"{mend}"
        )
    if rows < tokenizer_size(shared):
        raise ModelError(
            f"{folder}: expected at least {tokenizer_size(shared)} embedding rows for the tokenizer, found {rows}; "
            f"{mend}"
        )
    return rows, *agree_on_special_ids(tokenizer_folder, declared_ids(folder))


def check_vocabulary(folder: Path, tokenizer_folder: Path, teacher: dict[str, Any] | None = None) -> dict[str, Any]:
    """Checks that a model shares vocabulary, EOS and pad with the tokenizer, and EOS and pad with the teacher.

    Args:
        folder: the model.
        tokenizer_folder: the study's tokenizer.
        teacher: what this function found of the teacher; None for the teacher itself.

    Returns:
        `size`: logits that a token id can name, the tokenizer's length; further embedding `rows` are padding.
        `eos_id`, `pad_id`. `tokenizer_digest`: digest of {token: id}.

    Raises:
        ModelError: see `check_model`, or another EOS or pad than the teacher's.
    """
    rows, *ids = check_model(folder, tokenizer_folder)
    if teacher and ids != [teacher["eos_id"], teacher["pad_id"]]:
        raise ModelError(
            f"{folder}: expected the teacher's EOS and pad ids {[teacher['eos_id'], teacher['pad_id']]}, found {ids}; "
            "set eos_token_id and pad_token_id alike in both"
        )
    vocabulary = read_vocabulary(tokenizer_folder)
    return {
        "size": tokenizer_size(vocabulary),
        "eos_id": ids[0],
        "pad_id": ids[1],
        "rows": rows,
        "tokenizer_digest": digest_value(vocabulary),
    }


def copy_tokenizer_files(source: Path, target: Path) -> None:
    """Copies the tokenizer's files, and nothing else, from one folder into another."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def copy_external_model(folder: Path, tokenizer_folder: Path, output: Path) -> None:
    """Copies a model from outside after `check_model`: its weights, the study's tokenizer, EOS and pad set alike.

    Embedding rows that no token can name are cut, as from base models: an engine would sample them. Pickles, code,
    optimiser states and an engine's sampling defaults stay behind.

    Raises:
        ModelError: see `check_model`.
    """
    _, eos_id, pad_id = check_model(folder, tokenizer_folder)
    config = _read(folder / "config.json")
    ids = {"bos_token_id": config.get("bos_token_id"), "eos_token_id": eos_id, "pad_token_id": pad_id}
    size = tokenizer_size(read_vocabulary(tokenizer_folder))
    write_json(output / "config.json", config | ids | {"vocab_size": size})
    write_json(output / "generation_config.json", ids)
    index = _read(folder / INDEX) if (folder / INDEX).is_file() else None
    names = set(index["weight_map"].values()) if index else {"model.safetensors"}
    total = sum(_copy_weights(folder / name, output / name, size) for name in sorted(names))
    if index:
        write_json(output / INDEX, index | {"metadata": {"total_size": total}})
    copy_tokenizer_files(tokenizer_folder, output)


def _copy_weights(source: Path, target: Path, size: int) -> int:
    """Copies a safetensors file with the first `size` rows of what has a row a token; returns its tensors' bytes."""
    header = _read_header(source)
    begin = source.stat().st_size - max((entry["data_offsets"][1] for entry in header.values()), default=0)
    entries: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    pieces, total = [], 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        (first, end), shape = entry["data_offsets"], entry["shape"]
        length = end - first
        if _BY_TOKEN.search(name) and shape[0] > size:
            length, shape = length // shape[0] * size, [size, *shape[1:]]
        pieces.append((begin + first, length))
        entries[name] = entry | {"shape": shape, "data_offsets": [total, total + length]}
        total += length
    if all(entries[name] == entry for name, entry in header.items()):
        shutil.copyfile(source, target)
        return total
    head = json.dumps(entries).encode()
    head += b" " * (-len(head) % 8)
    with open(source, "rb") as given, open(target, "wb") as cut:
        cut.write(len(head).to_bytes(8, "little") + head)
        for place, length in pieces:
            given.seek(place)
            for start in range(0, length, _BLOCK_BYTES):
                cut.write(given.read(min(_BLOCK_BYTES, length - start)))
    return total
