"""Models supplied from outside."""

import json
import re
import shutil
from pathlib import Path

from distill.files import write_json
from distill.models.folders import (
    EMBEDDING,
    INDEX,
    WEIGHTS,
    copy_tokenizer_files,
    read_header,
    read_model_json,
    weight_files,
)
from distill.models.vocabulary import check_model, read_vocabulary, tokenizer_size

_BY_TOKEN = re.compile(rf"{EMBEDDING.pattern}|(^|\.)lm_head\.weight$")

_BLOCK_BYTES = 2**24


def copy_external_model(folder: Path, tokenizer_folder: Path, output: Path) -> None:
    """Copies a model from outside after `check_model`: its weights, the study's tokenizer, EOS and pad set alike.

    Of a single file and shards side by side the single file is read, as transformers does. Embedding rows that no token
    can name are cut, as from base models: an engine would sample them. Pickles, code, optimiser states and an engine's
    sampling defaults stay behind.

    Raises:
        ModelError: see `check_model`.
    """
    _, eos_id, pad_id = check_model(folder, tokenizer_folder)
    config = read_model_json(folder / "config.json")
    config.pop("auto_map", None)
    ids = {"bos_token_id": config.get("bos_token_id"), "eos_token_id": eos_id, "pad_token_id": pad_id}
    size = tokenizer_size(read_vocabulary(tokenizer_folder))
    write_json(output / "config.json", config | ids | {"vocab_size": size})
    write_json(output / "generation_config.json", ids)
    names = [*weight_files(folder)]
    total = sum(_copy_weights(folder / name, output / name, size) for name in names)
    if names != [WEIGHTS]:
        write_json(output / INDEX, read_model_json(folder / INDEX) | {"metadata": {"total_size": total}})
    copy_tokenizer_files(tokenizer_folder, output)


def _copy_weights(source: Path, target: Path, size: int) -> int:
    """Copies a safetensors file with the first `size` rows of what has a row a token; returns its tensors' bytes."""
    header = read_header(source)
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
