import json
import shutil
from dataclasses import replace

import pytest
import torch
from gguf import GGUFWriter
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PhiConfig,
    Qwen2Config,
)

from distill.config.base_models import PrunedModel, ScratchModel
from distill.config.given_models import FolderModel, HubModel
from distill.config.training import Training
from distill.errors import ModelError
from distill.files import digest_file
from distill.models.bases import build_base
from distill.models.external import copy_external_model
from distill.models.folders import check_structure, read_tensor_shapes
from distill.models.layers import count_layers, drop_layers
from distill.models.load import load_model, save_model
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences
from distill.models.vocabulary import check_vocabulary, read_vocabulary
from tiny_models import EOS_ID, PAD_ID, make_model, make_tokenizer, pad_rows

FAMILIES = ("qwen2", "gpt2", "opt")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {family: make_model(root / family, family, layers=3) for family in FAMILIES}


@pytest.fixture
def folder(folders, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(folders["qwen2"], tmp_path / "model")


def scratch(architecture="qwen2"):
    training = Training(steps=1, learning_rate=1e-3)
    return ScratchModel(architecture=architecture, hidden_size=64, layers=2, heads=2, pretraining=training)


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def build_other(kind):
    """A Llama, and an OPT whose embeddings are narrower than its blocks, as OPT-350m's."""
    shape = dict(vocab_size=300, hidden_size=64, num_hidden_layers=2, num_attention_heads=2)
    config = {
        "llama": lambda: LlamaConfig(**shape, intermediate_size=96, tie_word_embeddings=False),
        "opt-350m": lambda: OPTConfig(**shape, ffn_dim=96, word_embed_proj_dim=32, do_layer_norm_before=False),
    }[kind]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def pairs(*lengths):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 300, (length,), generator=generator).split([2, length - 2]) for length in lengths]


@pytest.mark.parametrize("family", [*FAMILIES, "llama", "opt-350m"])
def test_states_are_those_behind_the_model_s_logits_at_these_rows(folders, family):
    model = (load_model(folders[family]) if family in folders else build_other(family)).eval()
    batch = pack_sequences(pairs(9, 4, 12), "cpu", with_final_state=True)
    expected = torch.cat([model(ids[None]).logits[0] for ids in batch.input_ids.split(batch.sequence_lengths)])
    expected = expected[batch.rows]
    states = PackedModel(model).states(batch)
    assert states.vocabulary == 300
    torch.testing.assert_close(states.logits(), expected, atol=1e-5, rtol=0)
    states = PackedModel(model, 290).states(batch)
    torch.testing.assert_close(states.logits(), expected[:, :290], atol=1e-5, rtol=0)
    out_of_order = replace(batch, rows=batch.rows.flip(0)[3:8])
    assert torch.equal(PackedModel(model).states(out_of_order).hidden, states.hidden.flip(0)[3:8])


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_keeps_the_gradients(folders, family):
    gradients = []
    for enabled in (False, True):
        model = PackedModel(load_model(folders[family]))  # GPT-2 and OPT with dropout
        if enabled:
            model.enable_gradient_checkpointing()
            assert model.model.is_gradient_checkpointing
        batch = pack_sequences(pairs(8, 3, 11), "cpu", with_final_state=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model.train().states(batch).logits().logsumexp(-1).mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain, atol=1e-7, rtol=1e-5)


SMALL = dict(vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
WIDE = dict(intermediate_size=32, num_key_value_heads=1, head_dim=16)


@pytest.mark.parametrize(
    "config, found",
    [
        (PhiConfig(**SMALL, intermediate_size=32), "found an output bias;"),
        (
            Gemma2Config(**SMALL, **WIDE, attn_logit_softcapping=50.0, final_logit_softcapping=None),
            r"found attn_logit_softcapping 50\.0;",
        ),
        (
            Gemma2Config(**SMALL, **WIDE, attn_logit_softcapping=None, final_logit_softcapping=30.0),
            r"found final_logit_softcapping 30\.0;",
        ),
        (BloomConfig(**SMALL), "found an attention of its own;"),
        (
            Lfm2Config(**SMALL, intermediate_size=32, num_key_value_heads=1, layer_types=["conv", "full_attention"]),
            "found conv layers;",
        ),
    ],
    ids=["output bias", "attention cap", "logit cap", "alibi", "convolution"],
)
def test_models_that_packing_would_change_are_refused(config, found):
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ModelError, match=rf"^\w+: expected causal softmax attention and an output matrix.*{found}"):
        PackedModel(model)


@pytest.mark.parametrize("kind", ["mistral", "qwen2"])
def test_a_sliding_window_is_refused_where_a_sequence_is_longer(kind):
    config = {
        "mistral": lambda: MistralConfig(**SMALL, **WIDE, sliding_window=6),
        "qwen2": lambda: Qwen2Config(
            **SMALL,
            **WIDE,
            use_sliding_window=True,
            sliding_window=6,
            layer_types=["full_attention", "sliding_attention"],
        ),
    }[kind]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = AutoModelForCausalLM.from_config(config).eval()
    sequences = [ids % 40 for ids in (torch.arange(6), torch.arange(50, 55))]
    batch = pack_sequences([(ids[:1], ids[1:]) for ids in sequences], "cpu", with_final_state=True)
    expected = torch.cat([plain(ids[None]).logits[0] for ids in sequences])
    model = PackedModel(plain)
    torch.testing.assert_close(model.states(batch).logits(), expected, atol=1e-5, rtol=0)
    with pytest.raises(ModelError, match=r"within its sliding window of 6 tokens, found one of 7; shorten"):
        model(torch.arange(9), (2, 7), torch.arange(9))


def test_a_full_attention_model_has_no_window_whatever_its_config_says():
    config = Qwen2Config(**SMALL, **WIDE, use_sliding_window=False, sliding_window=6)
    model = PackedModel(AutoModelForCausalLM.from_config(config))
    assert model(torch.arange(9), (2, 7), torch.arange(9))[0].shape == (9, 32)


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_models_load_as_they_were_with_equal_bytes(folders, tmp_path, family):
    model = load_model(folders[family])
    save_model(model, folders[family], tmp_path / "a")
    save_model(PackedModel(model).model, folders[family], tmp_path / "b")  # no trace of how it was trained
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    } <= names
    assert all(digest_file(tmp_path / "a" / name) == digest_file(tmp_path / "b" / name) for name in names)
    again = load_model(tmp_path / "b")
    assert again.config._attn_implementation == "sdpa"
    weights = again.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_saving_leaves_no_sampling_defaults_and_pads_with_eos_where_no_pad_is_set(folders, tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    model = load_model(folders["qwen2"])
    model.config.pad_token_id = model.generation_config.pad_token_id = None
    model.generation_config.update(temperature=0.3, repetition_penalty=1.2, do_sample=True)
    save_model(model, tmp_path / "tokenizer", tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert not {"temperature", "repetition_penalty", "do_sample"} & set(saved)
    for name in ("config.json", "generation_config.json"):
        values = json.loads((tmp_path / "out" / name).read_text())
        assert (values["eos_token_id"], values["pad_token_id"]) == (EOS_ID, EOS_ID)


@pytest.mark.parametrize("family", FAMILIES)
def test_scratch_models_depend_on_their_seed_alone(folders, family):
    weights = []
    for global_seed, seed in ((1, 5), (2, 5), (2, 6)):
        torch.manual_seed(global_seed)
        before = torch.random.get_rng_state()
        model = build_base(scratch(family), folders[family], 300, seed)
        assert torch.equal(torch.random.get_rng_state(), before)
        weights.append(torch.cat([value.flatten() for value in model.state_dict().values()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    config = model.config
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers, config.eos_token_id) == (
        300,
        64,
        2,
        EOS_ID,
    )
    assert config.max_position_embeddings >= 512
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    ids = torch.arange(12)[None]
    assert torch.equal(model.train()(ids).logits, model.eval()(ids).logits)  # no dropout


@pytest.mark.parametrize("family", FAMILIES)
def test_pruned_models_skip_the_dropped_blocks_and_reload(folders, tmp_path, family):
    spec = PrunedModel(drop_layers=[1])
    pruned = build_base(spec, folders[family], 300, 0, teacher_base=folders[family])
    assert count_layers(pruned) == pruned.config.num_hidden_layers == 2
    teacher = load_model(folders[family])
    holder = getattr(teacher.base_model, "decoder", teacher.base_model)
    blocks = getattr(holder, "h", None) or holder.layers
    blocks[1].forward = lambda hidden_states, *args, **kwargs: hidden_states
    ids = torch.arange(20).reshape(2, 10)
    with torch.no_grad():
        expected = teacher(ids, use_cache=False).logits
        torch.testing.assert_close(pruned(ids, use_cache=False).logits, expected, atol=1e-6, rtol=0)
        save_model(pruned, folders[family], tmp_path / "pruned")
        reloaded = load_model(tmp_path / "pruned")
        torch.testing.assert_close(reloaded(ids).logits, expected, atol=1e-6, rtol=0)
        # Step by step with a cache: wrong layer numbers would mix up the blocks' keys and values.
        cache = pruned(ids[:, :6], use_cache=True).past_key_values
        stepped = pruned(ids[:, 6:], past_key_values=cache, use_cache=True).logits
        torch.testing.assert_close(stepped, expected[:, 6:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("drop", [[3], [-1], [0, 1, 2]])
def test_pruning_refuses_layers_that_are_not_there_and_an_empty_rest(folders, drop):
    with pytest.raises(ModelError, match=r"models\.student\.drop_layers: expected some of the layers 0 to 2.*found \["):
        drop_layers(load_model(folders["qwen2"]), drop)


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return (
        rf"model\.safetensors: expected {path.stat().st_size + 100} bytes for \d+ tensors, found {path.stat().st_size}"
    )


def overwrite(folder):
    (folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0not json")
    return r"model\.safetensors: expected a safetensors header"


def cut_header(folder):
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:50])
    return r"model\.safetensors: expected at least \d+ bytes, found 50: truncated"


def only_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return r"expected weights in model\.safetensors, found pytorch_model\.bin; .* pickles can run code"


def lost_shard(folder):
    model = load_model(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="100KB")
    shard = sorted(folder.glob("model-*.safetensors"))[0]
    shard.unlink()
    return rf"{shard.name}: expected this shard"


@pytest.mark.parametrize("damage", [truncate, overwrite, cut_header, only_pickle, lost_shard])
def test_damaged_weights_are_named_in_one_line(folders, folder, damage):
    pattern = damage(folder)
    with pytest.raises(ModelError, match=pattern) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=pattern):
        check_vocabulary(folder, folders["qwen2"])


def test_a_config_of_more_layers_than_the_weights_have_is_refused(folder):
    edit(folder / "config.json", num_hidden_layers=4, layer_types=None)
    with pytest.raises(ModelError, match=r"expected 12 more tensors of .*config\.json"):
        load_model(folder)
    with pytest.raises(ModelError, match=r"expected num_hidden_layers to be 3 as in the weights, found 4"):
        check_vocabulary(folder, folder)


def test_a_folder_model_must_exist(tmp_path, folders):
    with pytest.raises(ModelError, match=r"nowhere/config\.json: expected a model's file, found none"):
        build_base(FolderModel(path=str(tmp_path / "nowhere")), folders["qwen2"], 300, 0)


def write_gguf(path, model):
    """A Llama as llama.cpp stores it: its own tensor names, and query and key channels in another order."""
    config, blocks = model.config, {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k"}
    blocks |= {"self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate"}
    blocks |= {"mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm"}
    blocks |= {"post_attention_layernorm": "ffn_norm"}
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    for layer in range(config.num_hidden_layers):
        names |= {f"model.layers.{layer}.{old}": f"blk.{layer}.{new}" for old, new in blocks.items()}
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_eos_token_id(EOS_ID)
    for key, value in model.state_dict().items():
        name = names[key.removesuffix(".weight")]
        if name.endswith(("attn_q", "attn_k")):
            heads = config.num_attention_heads
            value = value.reshape(heads, 2, -1, config.hidden_size).swapaxes(1, 2).reshape(value.shape)
        writer.add_tensor(f"{name}.weight", value.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_becomes_a_plain_model_that_can_be_saved(folders, tmp_path):
    source = build_other("llama")
    write_gguf(tmp_path / "tiny.gguf", source)
    spec = FolderModel(path=str(tmp_path), gguf_file="tiny.gguf")
    model = build_base(spec, folders["qwen2"], 300, 0)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    save_model(model, folders["qwen2"], tmp_path / "out")
    ids = torch.arange(12)[None]
    expected = source.eval()(ids).logits
    for candidate in (model, load_model(tmp_path / "out")):
        torch.testing.assert_close(candidate(ids).logits, expected, atol=1e-5, rtol=0)


def test_a_truncated_gguf_file_is_named_in_one_line(folders, tmp_path):
    write_gguf(tmp_path / "tiny.gguf", build_other("llama"))
    whole = (tmp_path / "tiny.gguf").read_bytes()
    for size in (100, len(whole) - 5000):
        (tmp_path / "tiny.gguf").write_bytes(whole[:size])
        with pytest.raises(ModelError, match=r"tiny\.gguf: expected a whole GGUF file"):
            build_base(FolderModel(path=str(tmp_path), gguf_file="tiny.gguf"), folders["qwen2"], 300, 0)


def test_a_hub_model_without_network_fails_at_once_and_names_the_way_out(monkeypatch, tmp_path, folders):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    spec = HubModel(repository="Qwen/Qwen2.5-0.5B", revision="0" * 40)
    with pytest.raises(
        ModelError, match=r"Qwen/Qwen2\.5-0\.5B at revision 0{40}.*models\.teacher: \{kind: folder"
    ) as caught:
        build_base(spec, folders["qwen2"], 300, 0)
    assert "\n" not in str(caught.value)


def test_a_base_model_with_another_eos_than_the_tokenizer_is_refused(folders, folder):
    edit(folder / "generation_config.json", eos_token_id=[5, 7])
    with pytest.raises(ModelError, match=r"expected one eos_token_id.*\[5, 7\] in its generation config"):
        build_base(FolderModel(path=str(folder)), folders["qwen2"], 300, 0)


def test_check_vocabulary_reports_the_shared_size(folders, tmp_path):
    """Padded embedding rows, as OPT's and Qwen's, are not counted."""
    padded = make_model(tmp_path / "padded", vocabulary=320)
    make_tokenizer().save_pretrained(padded)
    teacher = check_vocabulary(padded, folders["qwen2"])
    assert teacher.pop("tokenizer_digest")
    assert teacher == {"size": 300, "eos_id": EOS_ID, "pad_id": PAD_ID, "rows": 320}
    assert check_vocabulary(folders["gpt2"], folders["qwen2"], teacher)["rows"] == 300


@pytest.mark.parametrize("role", ["eos", "pad"])
def test_check_vocabulary_refuses_another_eos_or_pad_than_the_teachers(folders, role):
    teacher = check_vocabulary(folders["gpt2"], folders["qwen2"]) | {f"{role}_id": 7}
    with pytest.raises(ModelError, match=r"expected the teacher's EOS and pad ids \[.*7.*\], found \[0, 1\]; set"):
        check_vocabulary(folders["gpt2"], folders["qwen2"], teacher)


def save_other(kind, folder):
    build_other(kind).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    for name in ("config.json", "generation_config.json"):
        edit(folder / name, eos_token_id=EOS_ID, pad_token_id=PAD_ID, bos_token_id=EOS_ID)
    return folder


@pytest.mark.parametrize("family", [*FAMILIES, "llama", "opt-350m"])
def test_rows_that_no_token_names_leave_bases_and_adopted_models(folders, tmp_path, family):
    source = tmp_path / "source"
    whole = (
        load_model(shutil.copytree(folders[family], source))
        if family in folders
        else load_model(save_other(family, source))
    )
    ids = torch.arange(12)[None]
    expected = whole(ids).logits
    pad_rows(source)
    assert (load_model(source)(ids).logits.argmax(-1) >= 300).all()
    save_model(build_base(FolderModel(path=str(source)), folders["qwen2"], 300, 0), folders["qwen2"], tmp_path / "base")
    (tmp_path / "adopted").mkdir()
    copy_external_model(source, folders["qwen2"], tmp_path / "adopted")
    for folder in (tmp_path / "base", tmp_path / "adopted"):
        found = load_model(folder)
        torch.testing.assert_close(found(ids).logits, expected, atol=1e-5, rtol=0)
        assert check_structure(folder) == found.config.vocab_size == PackedModel(found).vocabulary == 300
        assert read_tensor_shapes(folder) == read_tensor_shapes(tmp_path / "base")
        tied = found.get_input_embeddings().weight is found.get_output_embeddings().weight
        assert tied == (family != "llama")


def test_rows_that_no_token_names_leave_a_model_in_several_files(folders, folder, tmp_path):
    expected = load_model(folder).state_dict()
    pad_rows(folder)
    (whole := load_model(folder)).save_pretrained(folder, max_shard_size="50KB")
    (folder / "model.safetensors").unlink()
    (tmp_path / "out").mkdir()
    copy_external_model(folder, folders["qwen2"], tmp_path / "out")
    found = load_model(tmp_path / "out").state_dict()
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 3
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(p.numel() * 4 for p in whole.parameters()) - 20 * 64 * 4


def other_tokenizer(folder):
    make_tokenizer(310).save_pretrained(folder)
    return (
        r"expected the vocabulary of .* with 300 tokens, found 310.*'<\|unused.*|first difference is '.*losses compare"
    )


def swapped_ids(folder):
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(tokenizer))
    low, high = sorted((vocabulary["a"], vocabulary["b"]))
    ids = rf"id {low} there, {high} here|id {high} there, {low} here"
    return rf"with 300 tokens, found 300; the first difference is '[ab]': ({ids})"


def config_eos(folder):
    edit(folder / "config.json", eos_token_id=5)
    return r"expected one eos_token_id .*0 in .*5 in .*config\.json; set eos_token_id alike"


def generation_pad(folder):
    edit(folder / "generation_config.json", pad_token_id=9)
    return r"expected one pad_token_id .*1 in .*9 in .*generation_config\.json"


def no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    return r"expected a tokenizer in tokenizer\.json, found none"


def other_vocabulary_size(folder):
    edit(folder / "config.json", vocab_size=290)
    return r"config\.json: expected vocab_size to be 300 as in the weights, found 290"


def no_embeddings(folder):
    edit(folder / "config.json", vocab_size=None)
    save_file({"layers.0.weight": torch.zeros(1)}, folder / "model.safetensors")
    return r"config\.json: expected vocab_size to be 0 as in the weights, found None"


@pytest.mark.parametrize(
    "change",
    [other_tokenizer, swapped_ids, config_eos, generation_pad, no_tokenizer, other_vocabulary_size, no_embeddings],
)
def test_check_vocabulary_refuses_what_does_not_fit(folders, folder, change):
    pattern = change(folder)
    with pytest.raises(ModelError, match=pattern) as caught:
        check_vocabulary(folder, folders["qwen2"])
    assert "\n" not in str(caught.value)


def test_check_vocabulary_refuses_fewer_embedding_rows_than_tokens(folders, tmp_path):
    make_tokenizer(310).save_pretrained(tmp_path / "tokenizer")
    narrow = shutil.copytree(folders["qwen2"], tmp_path / "narrow")
    make_tokenizer(310).save_pretrained(narrow)
    with pytest.raises(ModelError, match=r"expected at least 310 embedding rows for the tokenizer, found 300"):
        check_vocabulary(narrow, tmp_path / "tokenizer")


def test_a_tokenizer_without_eos_is_refused(folder):
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            edit(folder / name, eos_token=None)
    with pytest.raises(ModelError, match=r"tokenizer_config\.json: expected an eos_token"):
        check_vocabulary(folder, folder)


def test_vocabulary_equals_what_transformers_reads(folders):
    assert read_vocabulary(folders["qwen2"]) == make_tokenizer().get_vocab()


def test_adopted_models_keep_weights_and_leave_the_rest_behind(folders, folder, tmp_path):
    edit(folder / "generation_config.json", temperature=0.2)
    (folder / "optimizer.pt").write_bytes(b"state")
    (folder / "modeling_custom.py").write_text("raise SystemExit")
    (tmp_path / "out").mkdir()
    copy_external_model(folder, folders["qwen2"], tmp_path / "out")
    assert digest_file(tmp_path / "out" / "model.safetensors") == digest_file(folder / "model.safetensors")
    assert not {"optimizer.pt", "modeling_custom.py"} & {path.name for path in (tmp_path / "out").iterdir()}
    assert "temperature" not in json.loads((tmp_path / "out" / "generation_config.json").read_text())
    ids = torch.arange(8)[None]
    assert torch.equal(load_model(tmp_path / "out")(ids).logits, load_model(folder)(ids).logits)
