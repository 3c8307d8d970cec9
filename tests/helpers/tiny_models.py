"""Tiny random models and byte-level BPE tokenizers, saved as Hugging Face folders: no hub, a second each."""

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

EOS, PAD = "<|endoftext|>", "<|pad|>"
EOS_ID, PAD_ID = 0, 1
TEXTS = tuple(
    f"Below is an instruction that describes a task. {verb} the {noun} {place}, and say {count} things about it."
    for verb in ("Name", "Describe", "Compare", "Paint")
    for noun in ("river", "lantern", "orchard", "bridge", "kettle")
    for place in ("in the valley", "by the old harbour", "under the hill")
    for count in ("two", "three", "seven")
)


def make_tokenizer(vocabulary: int = 300, texts: Iterable[str] = TEXTS) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE tokenizer of exactly `vocabulary` entries (258 or more: bytes, EOS 0 and pad 1)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[EOS, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([f"<|unused{i}|>" for i in range(vocabulary - tokenizer.get_vocab_size())])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=PAD)


def pad_rows(folder: Path, rows: int = 20) -> Path:
    """Adds embedding rows to a model that no token of its tokenizer names, and whose logits dominate."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.resize_token_embeddings(len(tokenizer) + rows, mean_resizing=False)
        for embeddings in (model.get_input_embeddings(), model.get_output_embeddings()):
            weight = embeddings.weight.data
            weight[-rows:] = 20 * weight.std() * torch.randn(rows, weight.shape[1])
    model.save_pretrained(folder)
    return folder


def make_model(
    folder: Path,
    family: str = "qwen2",
    *,
    vocabulary: int = 300,
    width: int = 64,
    layers: int = 2,
    positions: int = 512,
    initializer_range: float = 0.1,
    dropout: float | None = None,
    seed: int = 0,
    texts: Iterable[str] = TEXTS,
) -> Path:
    """Saves a random `qwen2`, `llama`, `gpt2` or `opt` model with tokenizer and generation config; returns `folder`.

    Heads have 32 channels (the smallest that vLLM takes), so `width` is a multiple of 32. The larger
    `initializer_range`, the more peaked the next-token distributions. `dropout` is the rate of every dropout that the
    family has (OPT's of layers too); None leaves the family's own rates.
    """
    heads = width // 32
    special = {"eos_token_id": EOS_ID, "pad_token_id": PAD_ID, "bos_token_id": EOS_ID}
    rotary = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": positions,
        "initializer_range": initializer_range,
    }
    config = {
        "qwen2": lambda: Qwen2Config(**rotary, tie_word_embeddings=True, **special),
        "llama": lambda: LlamaConfig(**rotary, **special),
        "gpt2": lambda: GPT2Config(
            vocab_size=vocabulary,
            n_embd=width,
            n_layer=layers,
            n_head=heads,
            n_positions=positions,
            initializer_range=initializer_range,
            **special,
        ),
        "opt": lambda: OPTConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            word_embed_proj_dim=width,
            ffn_dim=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=positions,
            init_std=initializer_range,
            **special,
        ),
    }[family]()
    if dropout is not None:
        for name in [name for name in config.to_dict() if "drop" in name]:
            setattr(config, name, dropout)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.generation_config = GenerationConfig(**special)
    model.save_pretrained(folder)
    make_tokenizer(vocabulary, texts).save_pretrained(folder)
    return Path(folder)
