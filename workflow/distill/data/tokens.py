"""Token ids of examples: prompt and response apart, without special tokens, EOS behind the response.

Only a wrapper's own special tokens, such as `<|im_start|>`, become control tokens. What a row says is text, whatever it
spells: `</s>` of HTML is no end of a Llama's answer.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from distill.data.prompts import template_of, wrap
from distill.errors import ModelError
from distill.files import read_json
from distill.models.vocabulary import tokenizer_size
from distill.records import Example, clean_response, read_examples


@dataclass(frozen=True)
class Encoded:
    """An example's wrapped prompt with its ids, and the ids of its response, which end with EOS."""

    id: str
    prompt: str
    prompt_ids: list[int]
    response_ids: list[int]


def load_tokenizer(folder: Path | str) -> tuple[Tokenizer, int]:
    """Returns the tokenizer of a Hugging Face folder and its EOS id (`eos_token` of tokenizer_config.json).

    Raises:
        ModelError: tokenizer.json is missing or unreadable, or the EOS token is unnamed or not in the vocabulary.
    """
    folder = Path(folder)
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises plain Exception for a missing and for a damaged file
        raise ModelError(
            f"{folder}/tokenizer.json: expected a tokenizer, found {error}; rerun make_tokenizer"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    eos = read_json(folder / "tokenizer_config.json").get("eos_token")
    name = eos["content"] if isinstance(eos, dict) else eos
    eos_id = tokenizer.token_to_id(name) if name is not None else None
    if eos_id is None:
        raise ModelError(
            f"{folder / 'tokenizer_config.json'}: expected eos_token to name an entry of the vocabulary, found "
            f"{name!r}; fix the tokenizer of models.teacher"
        )
    return tokenizer, eos_id


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """Returns how many ids a tokenizer can name: the largest + 1, whatever gaps there are."""
    return tokenizer_size(tokenizer.get_vocab())


def encode_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Returns the ids of a text; no special token is read or added (OPT would open with `</s>`, its EOS)."""
    tokenizer.encode_special_tokens = True  # as text
    return tokenizer.encode(text, add_special_tokens=False).ids


def encode_prompt(tokenizer: Tokenizer, wrapper: str, instruction: str, input: str) -> list[int]:
    """Returns the ids of `wrap`: the wrapper's special tokens as such, all between two of them as one text."""
    added = tokenizer.get_added_tokens_decoder()
    special = {token.content: id_ for id_, token in added.items() if token.special}
    ids: list[int] = []
    for part in re.split(f"({'|'.join(map(re.escape, special)) or '(?!)'})", template_of(wrapper, input)):
        if part in special:
            ids.append(special[part])
        else:
            ids += encode_text(tokenizer, part.format(instruction=instruction, input=input))
    return ids


def response_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Returns a response as it is kept and scored: without control tokens, then as `clean_response`."""
    return clean_response(tokenizer.decode(ids, skip_special_tokens=True))


def encode_example(tokenizer: Tokenizer, wrapper: str, example: Example, eos_id: int) -> Encoded:
    """Returns an example's ids; of several references the first is the response."""
    prompt_ids = encode_prompt(tokenizer, wrapper, example.instruction, example.input)
    response_ids = [*encode_text(tokenizer, example.references[0]), eos_id]
    return Encoded(example.id, wrap(wrapper, example.instruction, example.input), prompt_ids, response_ids)


def encode_file(path: Path | str, tokenizer: Tokenizer, wrapper: str, eos_id: int) -> list[Encoded]:
    """Returns the encoded examples of a JSONL file, in its order."""
    return [encode_example(tokenizer, wrapper, example, eos_id) for example in read_examples(path)]
