"""Model folders as strangers leave them: read as transformers reads them, or refused by name with what to do."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from distill.config.given_models import FolderModel
from distill.errors import ModelError
from distill.models.external import copy_external_model
from distill.models.folders import INDEX, WEIGHTS, read_tensor_shapes
from distill.models.load import load_model
from distill.models.locate import locate
from distill.models.vocabulary import agree_on_special_ids, check_vocabulary, declared_ids
from distill.study.load import load_study
from distill.study.parts import longest_sequence
from tiny_models import EOS_ID, PAD_ID, make_model

EMBEDDINGS = "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "good", "qwen2", layers=1)


@pytest.fixture
def folder(good, tmp_path):
    """A copy to change, in a folder with nothing else."""
    return Path(shutil.copytree(good, tmp_path / "given" / "model"))


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def shard(folder):
    """Saves a model again in several files; the single file goes."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    model.save_pretrained(folder, max_shard_size="100KB")
    return model


def adopt(folder, tokenizer, place):
    place.mkdir()
    copy_external_model(folder, tokenizer, place)
    return load_file(place / WEIGHTS)[EMBEDDINGS] if (place / WEIGHTS).is_file() else None


def refused(folder, tokenizer, pattern, act=check_vocabulary):
    with pytest.raises(ModelError, match=pattern) as error:
        act(folder, tokenizer)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep_shards", [False, True])
def test_of_a_single_file_and_an_index_the_single_file_is_read_as_transformers_does(
    good, folder, tmp_path, keep_shards
):
    model = shard(folder)
    if keep_shards:  # other weights beside them
        weights = {name: tensor + 1 for name, tensor in load_file(good / WEIGHTS).items()}
        save_file(weights, folder / WEIGHTS, {"format": "pt"})
    else:
        model.save_pretrained(folder)
    assert (folder / INDEX).is_file()
    theirs = AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings().weight
    assert torch.equal(adopt(folder, good, tmp_path / "out"), theirs)
    assert torch.equal(load_model(folder).get_input_embeddings().weight, theirs)
    assert not (tmp_path / "out" / INDEX).exists()


def test_shards_are_read_where_there_is_no_single_file(good, folder, tmp_path):
    shard(folder)
    assert adopt(folder, good, tmp_path / "out") is None
    assert torch.equal(load_model(tmp_path / "out").lm_head.weight, load_model(good).lm_head.weight)


@pytest.mark.parametrize("place", ["../planted.safetensors", "sub/w.safetensors", "/tmp/w.safetensors", "w.bin", ".."])
def test_an_index_names_files_beside_it_alone(good, folder, tmp_path, place):
    shutil.copy(folder / WEIGHTS, folder.parent / "planted.safetensors")
    names = read_tensor_shapes(folder)
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, place)}))
    before = sorted(tmp_path.rglob("*"))
    refused(folder, good, "expected safetensors files beside it")
    with pytest.raises(ModelError, match="expected safetensors files beside it"):
        adopt(folder, good, tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "out"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *((name, text) for name in ("config.json", "generation_config.json", INDEX) for text in ("[]", "7", '{"torn')),
        *(("tokenizer.json", text) for text in ("[]", "{}", '{"model": {"vocab": {"a": "1"}}}', "[" * 10**5)),
        ("tokenizer_config.json", '{"eos_token": ["a"]}'),
        (INDEX, "{}"),
        (INDEX, '{"weight_map": {"x": null}}'),
    ],
)
def test_a_file_of_another_kind_is_one_line_that_tells_nobody_to_delete_it(good, folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(ModelError, match=name.replace(".", r"\.")) as error:
        check_vocabulary(folder, folder if name.startswith("tokenizer") else good)
    assert "delete" not in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_weights_that_are_no_numbers_are_refused_with_the_tensors_name(good, folder, dtype, value):
    weights = {name: tensor.to(dtype) for name, tensor in load_file(folder / WEIGHTS).items()}
    weights["model.norm.weight"][-1] = -torch.finfo(dtype).max
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    assert check_vocabulary(folder, good)["rows"] == 300
    weights[EMBEDDINGS][-1, -1] = value
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    refused(folder, good, rf"model\.safetensors: expected finite numbers in the tensor {EMBEDDINGS}")


def as_adapter(folder):
    (folder / "config.json").unlink()
    (folder / WEIGHTS).rename(folder / "adapter_model.safetensors")
    edit_new = {"peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(edit_new))
    return r"expected a whole model, found adapter_config\.json.*merge_and_unload"


def beside_an_adapter(folder):
    (folder / "adapter_config.json").write_text("{}")
    return r"expected a whole model, found adapter_config\.json"


def with_code(folder):
    edit(folder / "config.json", model_type="mine", auto_map={"AutoModelForCausalLM": "modeling_mine.Mine"})
    (folder / "modeling_mine.py").write_text("raise SystemExit")
    return r"expected an architecture that transformers has itself, found auto_map to code in the folder"


@pytest.mark.parametrize("change", [as_adapter, beside_an_adapter, with_code])
def test_what_is_no_whole_model_is_refused_by_name_whichever_way_it_comes(good, folder, change):
    pattern = change(folder)
    refused(folder, good, pattern)
    refused(folder, good, pattern, lambda folder, tokenizer: load_model(folder))
    refused(folder, good, pattern, lambda folder, tokenizer: locate(FolderModel(path=str(folder))))


def test_a_known_architecture_that_brings_code_too_is_adopted_without_it(good, folder, tmp_path):
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_mine.Mine"})
    (folder / "modeling_mine.py").write_text("raise SystemExit")
    adopt(folder, good, tmp_path / "out")
    assert "auto_map" not in json.loads((tmp_path / "out" / "config.json").read_text())


def test_a_tokenizer_that_outgrew_the_embeddings_is_told_to_resize_them(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append(tokenizer["added_tokens"][0] | {"id": 300, "content": "<|turn|>"})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    refused(folder, folder, r"at least 301 embedding rows .* found 300: .*resize_token_embeddings")


def test_of_several_end_tokens_the_tokenizers_counts(good, folder, tmp_path):
    for name in ("config.json", "generation_config.json"):
        edit(folder / name, eos_token_id=[5, EOS_ID])
    assert agree_on_special_ids(good, declared_ids(folder)) == (EOS_ID, PAD_ID)
    adopt(folder, good, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == EOS_ID
    edit(folder / "config.json", eos_token_id=[5, 6])
    refused(folder, good, r"expected one eos_token_id .*\[5, 6\] in .* in a local copy where it is of the hub")


@pytest.mark.parametrize("family", ["gpt2", "opt", "qwen2"])
def test_a_sequence_longer_than_the_positions_is_refused_by_its_key(tmp_path, family):
    folder = make_model(tmp_path / family, family, layers=1, positions=32)
    assert check_vocabulary(folder, folder, longest=(32, "data.max_total_tokens"))["size"] == 300
    with pytest.raises(ModelError, match=r"^data\.max_total_tokens: expected at most 32 tokens, .* found 33; lower it"):
        check_vocabulary(folder, folder, longest=(33, "data.max_total_tokens"))


@pytest.mark.parametrize(
    ("changes", "longest"),
    [
        ({}, (128, "data.max_total_tokens")),
        ({"data": {"plain_text_tokens": 512}}, (512, "data.plain_text_tokens")),
        ({"generation": {"max_new_tokens": 100}}, (164, "data.max_prompt_tokens + generation.max_new_tokens")),
        ({"teacher_samples": {"max_new_tokens": 99}}, (163, "data.max_prompt_tokens + teacher_samples.max_new_tokens")),
        (
            {"runs": {"m": {"method": "minillm", "max_new_tokens": 200, "training": {"steps": 1, "learning_rate": 1}}}},
            (264, "data.max_prompt_tokens + runs.m.max_new_tokens"),
        ),
    ],
)
def test_the_longest_sequence_of_a_study_is_that_of_any_stage(changes, longest):
    assert longest_sequence(load_study(changes)) == longest


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json"])
def test_half_a_character_in_a_models_file_is_named(good, folder, name):
    content = json.loads((folder / name).read_text()) | {"attention_dropout": ["\ud800"]}
    (folder / name).write_text(json.dumps(content))
    refused(folder, good, rf"{name}: expected JSON, found half a character .* in `attention_dropout.0`; copy or")
