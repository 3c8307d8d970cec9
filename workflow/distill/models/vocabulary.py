"""The shared vocabulary: what each model must have in common with the tokenizer and the teacher."""

from pathlib import Path
from typing import Any

from distill.errors import ModelError
from distill.files import digest_value
from distill.models.folders import check_finite, check_positions, check_structure, read_model_json


def read_vocabulary(folder: Path) -> dict[str, int]:
    """Returns a tokenizer's {token: id}, added tokens included.

    Raises:
        ModelError: the folder has no `tokenizer.json`, or one without a vocabulary.
    """
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(
            f"{folder}: expected a tokenizer in tokenizer.json, found none; write it with "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    tokenizer = read_model_json(folder / "tokenizer.json")
    try:
        vocabulary = tokenizer["model"]["vocab"]
        if not isinstance(vocabulary, dict):  # unigram models list [token, score] by id
            vocabulary = {token: id_ for id_, (token, _) in enumerate(vocabulary)}
        vocabulary = vocabulary | {entry["content"]: entry["id"] for entry in tokenizer.get("added_tokens", [])}
    except (KeyError, TypeError, ValueError):
        vocabulary = {}
    if not vocabulary or not all(type(t) is str and type(id_) is int and id_ >= 0 for t, id_ in vocabulary.items()):
        raise ModelError(
            f"{folder / 'tokenizer.json'}: expected a vocabulary of tokens with their ids, found another content; copy "
            "or download the file again"
        )
    return vocabulary


def tokenizer_size(vocabulary: dict[str, int]) -> int:
    """Returns how many logits cover every token id: the largest id + 1."""
    return max(vocabulary.values()) + 1


def _special_id(folder: Path, role: str, vocabulary: dict[str, int]) -> int | None:
    """Returns the id of the tokenizer's `eos_token` or `pad_token`; None if it declares none."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        token = read_model_json(folder / name).get(role) if (folder / name).is_file() else None
        if token is not None:
            content = token.get("content") if isinstance(token, dict) else token
            if not isinstance(content, str) or content not in vocabulary:
                raise ModelError(
                    f"{folder / name}: expected {role} among the vocabulary's tokens, found {content!r}; fix it"
                )
            return vocabulary[content]
    return None


def agree_on_special_ids(tokenizer_folder: Path, declared: dict[str, dict]) -> tuple[int, int]:
    """Returns (EOS id, pad id) on which tokenizer, model config and generation config agree; an unset pad is EOS.

    Of several ids in one place, as instruct models have them, the tokenizer's counts; the others are tokens as any.

    Args:
        tokenizer_folder: folder with `tokenizer.json` and `tokenizer_config.json`.
        declared: per place, for the message, a mapping with `eos_token_id` and `pad_token_id`; unset or None is silent.

    Raises:
        ModelError: the tokenizer declares no EOS, or two places declare different ids, or several without the
            tokenizer's.
    """
    vocabulary = read_vocabulary(tokenizer_folder)
    found: dict[str, int] = {}
    ids: dict[str, Any]
    for role in ("eos", "pad"):
        own = _special_id(tokenizer_folder, f"{role}_token", vocabulary)
        ids = {str(tokenizer_folder): own}
        for place, values in declared.items():
            value = values.get(f"{role}_token_id")
            if isinstance(value, list) and value:
                value = own if own in value else value[0] if len(value) == 1 else value
            ids[place] = value
        told = {place: value for place, value in ids.items() if value is not None}
        if role == "eos" and own is None:
            raise ModelError(
                f"{tokenizer_folder / 'tokenizer_config.json'}: expected an eos_token, which ends each response, found "
                "none; add it"
            )
        if any(value != next(iter(told.values())) for value in told.values()):
            listing = ", ".join(f"{value} in {place}" for place, value in told.items())
            raise ModelError(
                f"{next(iter(declared))}: expected one {role}_token_id in tokenizer, config and generation config, "
                f"found {listing}; set {role}_token_id alike in all of them, in a local copy where it is of the hub"
            )
        found[role] = next(iter(told.values())) if told else found["eos"]
    return found["eos"], found["pad"]


def declared_ids(folder: Path) -> dict[str, dict]:
    """Returns the parsed `config.json` and, where there is one, `generation_config.json`, by path."""
    paths = [folder / "config.json", folder / "generation_config.json"]
    return {str(path): read_model_json(path) for path in paths if path.is_file() or path.name == "config.json"}


def check_model(folder: Path, tokenizer_folder: Path) -> tuple[int, int, int]:
    """Checks a model folder against the study's tokenizer; returns (embedding rows, EOS id, pad id).

    Raises:
        ModelError: damaged folder, weights that are no numbers, another vocabulary, fewer embedding rows than token
            ids, or disagreeing EOS or pad.
    """
    rows = check_structure(folder)
    check_finite(folder)
    own, shared = read_vocabulary(folder), read_vocabulary(tokenizer_folder)
    if own != shared:
        token = min(own.items() ^ shared.items(), key=lambda item: (item[1], item[0]))[0]
        raise ModelError(
            f"{folder}: expected the vocabulary of {tokenizer_folder} with {len(shared)} tokens, found {len(own)}; the "
            f"first difference is {token!r}: id {shared.get(token, 'none')} there, {own.get(token, 'none')} here; "
            "losses compare probabilities token by token, so teacher and student need one vocabulary; give models of "
            "one family (models.teacher, models.student)"
        )
    if rows < tokenizer_size(shared):
        raise ModelError(
            f"{folder}: expected at least {tokenizer_size(shared)} embedding rows for the tokenizer, found {rows}: "
            "tokens were added and the embeddings not resized; call model.resize_token_embeddings(len(tokenizer)), "
            "train what is new, and save both, or give the tokenizer without them"
        )
    return rows, *agree_on_special_ids(tokenizer_folder, declared_ids(folder))


def check_vocabulary(
    folder: Path, tokenizer_folder: Path, teacher: dict[str, Any] | None = None, longest: tuple[int, str] | None = None
) -> dict[str, Any]:
    """Checks that a model shares vocabulary, EOS and pad with the tokenizer, and EOS and pad with the teacher.

    Args:
        folder: the model.
        tokenizer_folder: the study's tokenizer.
        teacher: what this function found of the teacher; None for the teacher itself.
        longest: tokens of the study's longest sequence and the config key that says so; None does not compare them
            with the model's positions.

    Returns:
        `size`: logits that a token id can name, the tokenizer's length; further embedding `rows` are padding.
        `eos_id`, `pad_id`. `tokenizer_digest`: digest of {token: id}.

    Raises:
        ModelError: see `check_model`, or another EOS or pad than the teacher's, or fewer positions than `longest`.
    """
    rows, *ids = check_model(folder, tokenizer_folder)
    if longest:
        check_positions(folder, *longest)
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
