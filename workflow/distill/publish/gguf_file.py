"""A selected model as a GGUF file, for llama.cpp and what reads its format: `python -m distill gguf MODEL FILE`.

Weights stay in float32. Chat template, EOS and vocabulary go into the file; that a special token which a message spells
is text (`split_special_tokens`) has no place there. Libraries that an environment for audits lacks are imported late.
"""

from argparse import ArgumentParser, Namespace
from contextlib import suppress
from pathlib import Path
from typing import Any

from distill.command import Command, say
from distill.errors import DistillError, ModelError
from distill.files import MANIFEST, atomic_write
from distill.publish.sealed import check_beside_results, read_sealed

FORMS: dict[str, dict[str, Any]] = {
    "gpt2": {
        "activation_function": "gelu_new",
        "n_inner": None,
        "n_positions": 1024,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
    },
    "qwen2": {"hidden_act": "silu", "use_sliding_window": False},
}
"""By architecture that llama.cpp has and transformers reads again: what its form takes for granted of a config."""


def _split_name(folder: Path) -> str:
    """Returns llama.cpp's name for the way in which a byte-level BPE tokenizer splits a text."""
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    from distill.models.folders import read_model_json

    tokenizer, found = read_model_json(folder / "tokenizer.json"), "another form"
    with suppress(AttributeError, IndexError, KeyError, TypeError):
        model, normalizer, split = tokenizer["model"], tokenizer.get("normalizer"), tokenizer["pre_tokenizer"]
        steps = split.get("pretokenizers", [split])
        found = " and ".join(str(part["type"]) for part in filter(None, (model, normalizer, *steps)))
        patterns = [step["pattern"].get("Regex") for step in steps[:-1]]
        last = steps[-1]
        is_plain = model["type"] == "BPE" and not model.get("ignore_merges")
        is_plain = is_plain and (not normalizer or normalizer["type"] == "NFC")
        if is_plain and last["type"] == "ByteLevel" and not last["add_prefix_space"]:
            if not patterns and last.get("use_regex", True):
                return "gpt-2"
            if patterns == [PRETOKENIZE_REGEX] and not last.get("use_regex", True):
                return "qwen2"
    raise ModelError(
        f"{folder / 'tokenizer.json'}: expected a byte-level BPE tokenizer that splits a text as GPT-2's or Qwen2's, "
        f"found {found}; use the folder itself: no GGUF reader would give its ids"
    )


def _add_vocabulary(writer: Any, folder: Path, size: int, split: str) -> None:
    from gguf import SpecialVocab, TokenType

    from distill.data.tokens import load_tokenizer

    tokenizer, _ = load_tokenizer(folder)
    added = tokenizer.get_added_tokens_decoder()
    tokens, types = [], []
    for id_ in range(size):
        token = tokenizer.id_to_token(id_)
        kind = TokenType.NORMAL if token is not None else TokenType.UNUSED
        if id_ in added:
            kind = TokenType.CONTROL if added[id_].special else TokenType.USER_DEFINED
        tokens.append(f"[PAD{id_}]" if token is None else token)
        types.append(kind)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_add_bos_token(False)
    try:
        SpecialVocab(folder, load_merges=True, n_vocab=size).add_to_gguf(writer, quiet=True)
    except ValueError as error:
        raise ModelError(f"{folder}: expected a tokenizer with a template, found {error}; copy it again") from error


def _check_form(folder: Path) -> None:
    from distill.models.folders import check_structure, read_model_json

    check_structure(folder)
    if (folder / MANIFEST).is_file():
        read_sealed(folder)
    config = read_model_json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in FORMS:
        raise ModelError(
            f"{folder / 'config.json'}: expected an architecture that transformers reads again from a GGUF file "
            f"({', '.join(FORMS)}), found {kind}; use the folder itself, in transformers or vLLM"
        )
    rotary = config.get("rope_parameters") or config.get("rope_scaling") or {}
    found = {name: config.get(name, value) for name, value in FORMS[kind].items()}
    found["rope_type"] = rotary.get("rope_type", rotary.get("type", "default"))
    for name, value in (FORMS[kind] | {"rope_type": "default"}).items():
        if found[name] != value:
            raise ModelError(
                f"{folder / 'config.json'}: expected {name} {value}, as a {kind} has it in a GGUF file, found "
                f"{found[name]}; use the folder itself, in transformers or vLLM"
            )


def write_gguf(folder: Path, output: Path) -> None:
    """Writes a model folder as one GGUF file in float32.

    Args:
        folder: a model with its tokenizer and, if it is to be asked by messages, its chat template.
        output: a new file.

    Raises:
        DataError, ModelError: the folder is damaged, or its architecture or tokenizer has no such form.
    """
    _check_form(folder)
    split = _split_name(folder)  # before the weights are read
    from gguf import MODEL_ARCH_NAMES, GGUFWriter, LlamaFileType, get_tensor_name_map
    from transformers.pytorch_utils import Conv1D

    from distill.models.load import load_model, quiet

    quiet()
    model = load_model(folder)
    config: Any = model.config
    kind = config.model_type
    with atomic_write(output) as temporary:
        writer = GGUFWriter(temporary, kind)
        writer.add_name(folder.name)
        writer.add_file_type(LlamaFileType.ALL_F32)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_head_count(config.num_attention_heads)
        writer.add_vocab_size(config.vocab_size)
        if kind == "gpt2":
            writer.add_feed_forward_length(4 * config.n_embd)
            writer.add_layer_norm_eps(config.layer_norm_epsilon)
        else:
            writer.add_feed_forward_length(config.intermediate_size)
            writer.add_head_count_kv(config.num_key_value_heads)
            writer.add_layer_norm_rms_eps(config.rms_norm_eps)
            writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        _add_vocabulary(writer, folder, config.vocab_size, split)
        arch = next(key for key, name in MODEL_ARCH_NAMES.items() if name == kind)
        names = get_tensor_name_map(arch, config.num_hidden_layers)
        turned = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Conv1D)}
        for name, value in model.state_dict().items():
            if name == "lm_head.weight" and config.tie_word_embeddings:
                continue
            own = names.get_name(name, try_suffixes=(".weight", ".bias"))
            assert own, f"{name}: a tensor that no {kind} has"
            writer.add_tensor(own, (value.T if name in turned else value).contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model folder of a study: results/models/SYSTEM")
    parser.add_argument("file", type=Path, metavar="FILE", help="a new file outside the results")


def _run(options: Namespace) -> int:
    output: Path = options.file
    if output.exists():
        raise DistillError(f"{output}: expected a new file, found one; give another FILE")
    check_beside_results(output)
    write_gguf(options.model, output)
    say(f"{output}: GGUF of {options.model} in float32, {output.stat().st_size} bytes")
    return 0


COMMAND = Command("gguf", "write a trained model as a GGUF file", _add_arguments, _run)
