"""A plain message reads as the prompt of training: template and wrapper give the same tokens, whatever a text says."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError
from tokenizers import AddedToken
from transformers import AutoTokenizer

from distill.data.chat_template import conversation, make_usable
from distill.data.prompts import WRAPPERS
from distill.data.tokens import encode_prompt, load_tokenizer
from distill.data.world import generate_world
from distill.files import read_json, read_jsonl, write_json
from shared_data import shared_data
from tiny_models import EOS, make_tokenizer

CONTROL = ("<|im_start|>", "<|im_end|>")
QUOTED = (EOS, *CONTROL, "{instruction}", "{{ 1 }}", "{% raw %}", "\\n", "'", '"', "\n", " ", "\u2028", "é", "😀")


def make_usable_tokenizer(folder, wrapper, control=CONTROL):
    """Writes a tokenizer with control tokens into a folder as a published model has it."""
    tokenizer = make_tokenizer(400)
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in control], special_tokens=True)
    tokenizer.save_pretrained(folder)
    write_json(folder / "generation_config.json", {"eos_token_id": 0})
    make_usable(folder, wrapper, 12)
    return AutoTokenizer.from_pretrained(folder), load_tokenizer(folder)[0]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    return {name: make_usable_tokenizer(tmp_path_factory.mktemp(name), name) for name in WRAPPERS}


def ids_of(tokenizer, messages):
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


TEXTS = st.lists(st.sampled_from(QUOTED) | st.text(max_size=12), max_size=4).map("".join)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@settings(derandomize=True, deadline=None, max_examples=150)
@given(instruction=TEXTS, input=TEXTS)
def test_template_and_wrapper_give_the_same_tokens(tokenizers, wrapper, instruction, input):
    tokenizer, own = tokenizers[wrapper]
    messages = conversation(instruction, input)
    if wrapper == "minillm_qwen" and any(token in text for token in (EOS, *CONTROL) for text in (instruction, input)):
        with pytest.raises(TemplateError, match="expected no control token in a text, found <"):
            ids_of(tokenizer, messages)
    else:
        assert ids_of(tokenizer, messages) == encode_prompt(own, wrapper, instruction, input)


def agree(tokenizer, own, wrapper, rows):
    texts = [(row["instruction"], row.get("input", "")) for row in rows]
    assert {bool(input) for _, input in texts} == {True, False}
    for instruction, input in texts:
        assert ids_of(tokenizer, conversation(instruction, input)) == encode_prompt(own, wrapper, instruction, input)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_both_agree_on_rows_of_the_embedded_world(tokenizers, wrapper):
    agree(*tokenizers[wrapper], wrapper, generate_world(3, 400, 8, 4).instructions)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_both_agree_on_every_dev_row_of_dolly(tokenizers, wrapper):
    agree(*tokenizers[wrapper], wrapper, [row for _, row in read_jsonl(shared_data("eval/dolly_dev_1000.jsonl"))])


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapper_whose_control_tokens_the_tokenizer_lacks_is_text(tmp_path, wrapper):
    tokenizer, own = make_usable_tokenizer(tmp_path, wrapper, control=())
    text = f"Say {CONTROL[0]} and {EOS}."
    assert ids_of(tokenizer, conversation(text, "")) == encode_prompt(own, wrapper, text, "")
    assert 0 not in ids_of(tokenizer, conversation(text, ""))


@pytest.mark.parametrize(
    ("messages", "line"),
    [
        ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}], "expected one user message"),
        ([{"role": "user", "content": "Hi"}] * 2, "expected one user message"),
        ([{"role": "user", "content": [{"type": "image", "image": "a.png"}]}], "found a part of type image"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "Hi"}] * 3}],
            "expected an instruction, and at most one input; found 3 texts",
        ),
    ],
)
def test_what_the_model_never_saw_is_refused(tokenizers, messages, line):
    with pytest.raises(TemplateError, match=line):
        ids_of(tokenizers["alpaca"][0], messages)


def test_the_template_of_a_base_that_was_tuned_to_chat_is_replaced(tmp_path):
    make_usable_tokenizer(tmp_path, "alpaca")
    config = read_json(tmp_path / "tokenizer_config.json")
    write_json(tmp_path / "tokenizer_config.json", config | {"chat_template": "another"})
    make_usable(tmp_path, "short", 12)
    own = load_tokenizer(tmp_path)[0]
    assert ids_of(AutoTokenizer.from_pretrained(tmp_path), conversation("Hi", "")) == encode_prompt(
        own, "short", "Hi", ""
    )
    assert read_json(tmp_path / "generation_config.json") == {"eos_token_id": 0, "max_new_tokens": 12}
