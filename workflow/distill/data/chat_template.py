"""The chat template of a model folder: a plain message becomes the prompt that the model was trained on.

One user message is one prompt, since no model here learnt a dialogue. Its content is the instruction, or two text
parts: the instruction, and the input that goes with it.
"""

from collections.abc import Collection
from pathlib import Path
from string import Formatter
from typing import Any

from distill.data.prompts import template_of
from distill.files import write_json, write_text
from distill.models.folders import read_model_json

TEMPLATE = "chat_template.jinja"

_FRAME = """\
{%- set said = namespace(texts=[]) -%}
{%- for message in messages -%}
{%- if not loop.first or message['role'] != 'user' -%}
{{- raise_exception('expected one user message: each is answered alone; found more, or another role') -}}
{%- endif -%}
{%- if message['content'] is string -%}
{%- set said.texts = [message['content']] -%}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] != 'text' -%}
{{- raise_exception('expected text, found a part of type ' ~ part['type']) -}}
{%- endif -%}
{%- set said.texts = said.texts + [part['text']] -%}
{%- endfor -%}
{%- endif -%}
{%- endfor -%}
{%- if said.texts | length not in (1, 2) -%}
{{- raise_exception('expected an instruction, and at most one input; found ' ~ said.texts | length ~ ' texts') -}}
{%- endif -%}
{%- set instruction = said.texts[0] -%}
{%- set input = said.texts[1] if said.texts | length == 2 else '' -%}
"""
_REFUSE = """\
{%- for token in RESERVED -%}
{%- if token in instruction or token in input -%}
{{- raise_exception('expected no control token in a text, found ' ~ token) -}}
{%- endif -%}
{%- endfor -%}
"""


def conversation(instruction: str, input: str) -> list[dict[str, Any]]:
    """Returns the messages that ask for an instruction with its input, "" if none."""
    parts = [{"type": "text", "text": text} for text in (instruction, input)]
    return [{"role": "user", "content": parts if input else instruction}]


def chat_template(wrapper: str, reserved: Collection[str] = ()) -> str:
    """Returns the Jinja template that renders a conversation as `prompts.wrap` does.

    Args:
        wrapper: a name of `prompts.WRAPPERS`.
        reserved: tokens that the template refuses in a message, since a tokenizer would read them as control tokens.
    """
    without, given = (_expression(template_of(wrapper, input)) for input in ("", "x"))
    refuse = _REFUSE.replace("RESERVED", repr(sorted(reserved))) if reserved else ""
    return f"{_FRAME}{refuse}{{{{- ({given}) if input | trim else ({without}) -}}}}\n"


def _expression(template: str) -> str:
    """Returns a Jinja expression of a template with places in braces."""
    parsed = Formatter().parse(template)
    return " ~ ".join(piece for text, field, _, _ in parsed for piece in (repr(text) if text else "", field) if piece)


def make_usable(folder: Path, wrapper: str, max_new_tokens: int) -> None:
    """Lets a model folder answer plain messages as trained, in whatever reads chat templates.

    Writes the template, the longest answer into the generation config, and into the tokenizer's that special tokens
    which a text spells are text (`split_special_tokens`). Where the wrapper itself has special tokens these must be
    read, so that its template refuses messages that spell one. Hard links to the old files are left as they are.

    Args:
        folder: a model with its tokenizer.
        wrapper: a name of `prompts.WRAPPERS`.
        max_new_tokens: of an answer.

    Raises:
        ModelError: a file is missing or damaged.
    """
    added = read_model_json(folder / "tokenizer.json").get("added_tokens", [])
    special = {token["content"] for token in added if token["special"]}
    is_own = any(token in template_of(wrapper, input) for token in special for input in ("", "x"))
    config = read_model_json(folder / "tokenizer_config.json")
    config.pop("chat_template", None)  # that of a base which was tuned to chat
    write_json(folder / "tokenizer_config.json", config | {"split_special_tokens": not is_own})
    write_text(folder / TEMPLATE, chat_template(wrapper, special if is_own else ()))
    generation = read_model_json(folder / "generation_config.json")
    write_json(folder / "generation_config.json", generation | {"max_new_tokens": max_new_tokens})
