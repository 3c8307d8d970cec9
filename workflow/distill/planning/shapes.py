"""Shapes of models, from a scratch section, a local folder's config.json, or the published configs of known models."""

import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from distill.config.base import expand_path
from distill.config.base_models import PrunedModel, ScratchModel, StudentModel
from distill.config.given_models import FolderModel, HubModel
from distill.errors import ConfigError


@dataclass(frozen=True)
class Shape:
    """A decoder's shape; vectors (norms, biases) and positions are left out.

    Attributes:
        width, layers, inner: of the hidden states, blocks, and feed-forward parts.
        heads, kv_heads: query heads, and heads of keys and values.
        vocabulary: rows of the embedding.
        gated: three feed-forward matrices instead of two (Qwen2, Llama).
        tied: embedding and output matrix are one.
    """

    width: int
    layers: int
    inner: int
    heads: int
    kv_heads: int
    vocabulary: int
    gated: bool = True
    tied: bool = True

    @property
    def blocks(self) -> int:
        """Weights of all blocks, N_ne: those that multiply each token."""
        keys = self.width * self.kv_heads // self.heads
        attention = 2 * self.width * self.width + 2 * self.width * keys
        return self.layers * (attention + (3 if self.gated else 2) * self.width * self.inner)

    @property
    def head(self) -> int:
        """Weights of the output matrix, which multiply each state whose logits are formed."""
        return self.vocabulary * self.width

    @property
    def weights(self) -> int:
        """All weights."""
        return self.blocks + self.head * (1 if self.tied else 2)

    @property
    def cached_values(self) -> int:
        """Numbers that the key-value cache keeps of one token."""
        return 2 * self.layers * self.width * self.kv_heads // self.heads


KNOWN = {
    "qwen2.5-0.5b": Shape(896, 24, 4864, 14, 2, 151936),
    "qwen2.5-1.5b": Shape(1536, 28, 8960, 12, 2, 151936),
    "qwen2.5-3b": Shape(2048, 36, 11008, 16, 2, 151936),
    "qwen2.5-7b": Shape(3584, 28, 18944, 28, 4, 152064, tied=False),
    "llama-3.2-1b": Shape(2048, 16, 8192, 32, 8, 128256),
    "llama-3.1-8b": Shape(4096, 32, 14336, 32, 8, 128256, tied=False),
    "smollm2-135m": Shape(576, 30, 1536, 9, 3, 49152),
    "gpt2": Shape(768, 12, 3072, 12, 12, 50257, gated=False),
    "gpt2-medium": Shape(1024, 24, 4096, 16, 16, 50257, gated=False),
    "gpt2-large": Shape(1280, 36, 5120, 20, 20, 50257, gated=False),
    "gpt2-xl": Shape(1600, 48, 6400, 25, 25, 50257, gated=False),
    "opt-125m": Shape(768, 12, 3072, 12, 12, 50272, gated=False),
    "opt-350m": Shape(1024, 24, 4096, 16, 16, 50272, gated=False),
    "opt-1.3b": Shape(2048, 24, 8192, 32, 32, 50272, gated=False),
    "opt-6.7b": Shape(4096, 32, 16384, 32, 32, 50272, gated=False),
}
"""Published configs, by the last part of the repository's name, so that a study plans offline."""
_VARIANT = re.compile(r"[-_.](instruct|math|base|teacher|chat|q\d\w*|f16|bf16|gguf)(?=[-_.]|$)")


def known_shape(name: str) -> Shape | None:
    """Returns the shape behind a model's name, whatever its variant (Instruct, Math, quantised); None if unknown.

    Args:
        name: of a repository, folder or file.
    """
    plain = _VARIANT.sub("", Path(name).name.lower().replace("qwen-2.5", "qwen2.5"))
    return KNOWN.get(_VARIANT.sub("", plain))


def read_shape(config: dict) -> Shape:
    """Returns the shape that a config.json tells, of the architectures of `KNOWN`; raises KeyError for others."""
    if config.get("model_type") == "gpt2":
        width, layers, heads = config["n_embd"], config["n_layer"], config["n_head"]
        return Shape(width, layers, config.get("n_inner") or 4 * width, heads, heads, config["vocab_size"], gated=False)
    width, layers, heads = (config[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    tied = bool(config.get("tie_word_embeddings", config["model_type"] == "opt"))
    if config["model_type"] == "opt":
        return Shape(width, layers, config["ffn_dim"], heads, heads, config["vocab_size"], False, tied)
    kv_heads = config.get("num_key_value_heads") or heads
    return Shape(width, layers, config["intermediate_size"], heads, kv_heads, config["vocab_size"], True, tied)


def shape_of(model: StudentModel, vocabulary: int, teacher: Shape | None = None) -> Shape | None:
    """Returns the shape of a base model; None where nothing says it.

    A hub model is looked up by name alone: nothing is loaded.

    Args:
        model: the section of the base.
        vocabulary: embedding rows of a scratch model.
        teacher: the teacher's shape, of which a pruned model is made.
    """
    if isinstance(model, ScratchModel):
        gated = model.architecture == "qwen2"
        inner = (3 if gated else 4) * model.hidden_size
        return Shape(model.hidden_size, model.layers, inner, model.heads, model.heads, vocabulary, gated)
    if isinstance(model, PrunedModel):
        return teacher and replace(teacher, layers=max(1, teacher.layers - len(model.drop_layers)))
    if isinstance(model, HubModel):
        return known_shape(model.repository)
    assert isinstance(model, FolderModel)
    return _folder_shape(model.path, model.gguf_file)


def _folder_shape(path: str, file: str | None) -> Shape | None:
    if file:
        return known_shape(file)
    try:
        return read_shape(json.loads((expand_path(path, "models") / "config.json").read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError, ConfigError):
        return known_shape(os.path.basename(path.rstrip("/")))
