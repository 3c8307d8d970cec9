"""Both engines sample the model's own distribution, repeat exactly, and agree on what a finished response is."""

import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from distill.errors import ConfigError, DataError, ModelError
from distill.models.external import copy_external_model
from distill.models.load import load_model
from distill.models.packed import PackedModel
from distill.rollouts.mixed_sampling import sample_mixture
from distill.sampling.engines import open_engine
from distill.sampling.protocol import EngineSettings, Request
from distill.sampling.resumable import LazyEngine
from distill.sampling.transformers_engine import choose_tokens
from distill.seeds import sequence_seed
from tiny_models import EOS_ID, make_model, pad_rows

ENGINES = ("transformers", "vllm")
PROMPTS = [[5 + (7 * i + 11 * j) % 290 for j in range(3 + 5 * (i % 5))] for i in range(12)]


def settings_of(engine):
    return EngineSettings(engine=engine, max_model_len=96, max_num_seqs=64, kv_cache_gib=0.1)


def open_tiny(engine, folder):
    return open_engine(folder, settings_of(engine))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    families = ("qwen2", "gpt2", "opt")
    return {
        (family, seed): make_model(root / f"{family}-{seed}", family, initializer_range=0.3, seed=seed)
        for family in families
        for seed in (0, 1)
    }


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, folders):
    with open_tiny(request.param, folders["qwen2", 0]) as engine:
        yield engine


def requests_of(seed=10, n=2):
    return [Request(f"example-{i}", prompt, seed, n) for i, prompt in enumerate(PROMPTS)]


def next_token_probabilities(folder, prompt):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    with torch.no_grad():
        return model(torch.tensor([prompt])).logits[0, -1].softmax(dim=-1)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (1.0, 0.8), (0.7, 1.0)])
def test_first_tokens_follow_the_models_distribution(engine, folders, temperature, top_p):
    prompt, samples = PROMPTS[3], 4000
    expected = next_token_probabilities(folders["qwen2", 0], prompt) ** (1 / temperature)
    expected /= expected.sum()
    ordered, ids = expected.sort(descending=True)
    nucleus = ids[: int((ordered.cumsum(0) < top_p).sum()) + 1]
    inside = torch.zeros_like(expected, dtype=torch.bool).index_fill(0, nucleus, True)
    expected = expected.where(inside, 0) / expected[inside].sum()
    done = engine.generate([Request("x", prompt, 3, samples)], temperature, top_p, 1)
    counts = torch.bincount(torch.tensor([c.token_ids[0] for c in done]), minlength=len(expected)).double()
    assert counts[~inside].sum() == 0
    large = expected * samples >= 5
    observed = torch.cat([counts[large], counts[~large].sum()[None]])
    wanted = torch.cat([expected[large], expected[~large].sum()[None]]) * samples
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    statistic, freedom = ((observed - wanted) ** 2 / wanted).sum().item(), len(wanted) - 1
    assert freedom > 10
    assert statistic < freedom + 4 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("family", ["qwen2", "gpt2", "opt"])
@pytest.mark.parametrize("name", ENGINES)
def test_greedy_is_the_argmax_of_the_whole_sequence_and_new_weights_act_at_once(folders, family, name):
    requests, new_tokens = requests_of(n=1), 12
    with open_tiny(name, folders[family, 0]) as engine:
        first = engine.generate(requests, 1.0, 1.0, new_tokens)
        engine.load_weights(folders[family, 1])
        swapped = engine.generate(requests, 1.0, 1.0, new_tokens)
        greedy = engine.generate(requests, 0.0, 1.0, new_tokens)
    with open_tiny(name, folders[family, 1]) as engine:
        assert swapped == engine.generate(requests, 1.0, 1.0, new_tokens)
    assert swapped != first
    model = AutoModelForCausalLM.from_pretrained(folders[family, 1], dtype=torch.float32)
    for prompt, completion in zip(PROMPTS, greedy, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + completion.token_ids])).logits[0]
        assert completion.token_ids == logits[len(prompt) - 1 : -1].argmax(dim=-1).tolist()


def beyond(completions):
    """Returns the share of tokens that no tokenizer entry has."""
    ids = [token for completion in completions for token in completion.token_ids]
    return sum(token >= 300 for token in ids) / len(ids)


def test_no_engine_samples_rows_that_no_token_names(folders, tmp_path):
    padded = pad_rows(shutil.copytree(folders["qwen2", 0], tmp_path / "padded"))
    with open_tiny("transformers", padded) as engine:
        assert beyond(engine.generate(requests_of(), 1.0, 1.0, 12)) > 0.9
    line = r"^response 0 to example-0: expected token ids from 0 to 299, the tokenizer's, found 3\d\d; give the model"
    with LazyEngine(settings_of("transformers"), 300).use(padded) as engine, pytest.raises(DataError, match=line):
        engine.generate(requests_of(), 1.0, 1.0, 12)
    (cut := tmp_path / "cut").mkdir()
    copy_external_model(padded, folders["qwen2", 0], cut)
    for name in ENGINES:
        with LazyEngine(settings_of(name), 300).use(cut) as engine:
            for temperature, top_p in ((1.0, 1.0), (1.0, 0.8), (0.0, 1.0)):
                done = engine.generate(requests_of(), temperature, top_p, 12)
                assert len(done) == 24 and beyond(done) == 0
    student = PackedModel(load_model(cut))
    assert max(map(max, sample_mixture(student, student, 0.5, PROMPTS, range(12), EOS_ID, 12))) < 300


def test_a_response_depends_on_its_own_seed_alone(engine):
    requests = requests_of()
    together = engine.generate(requests, 1.0, 0.9, 20)
    assert [(c.id, c.sample) for c in together] == [(r.id, s) for r in requests for s in range(2)]
    assert engine.generate(requests, 1.0, 0.9, 20) == together
    backwards = engine.generate(requests[::-1], 1.0, 0.9, 20)
    assert sorted(backwards, key=lambda c: (c.id, c.sample)) == sorted(together, key=lambda c: (c.id, c.sample))
    assert engine.generate(requests[5:6], 1.0, 0.9, 20) == together[10:12]
    crowd = [Request(f"other-{i}", [9 + i % 200] * (1 + i % 30), 4) for i in range(90)]
    assert engine.generate([*crowd, *requests], 1.0, 0.9, 20)[90:] == together
    assert len({tuple(c.token_ids) for c in together}) == len(together)
    assert engine.generate(requests_of(seed=20), 1.0, 0.9, 20) != together


def test_finished_means_ended_by_eos_which_is_kept(engine):
    done = engine.generate(requests_of(n=25), 1.0, 1.0, 40)
    for completion in done:
        assert EOS_ID not in completion.token_ids[:-1]
        assert completion.finished == (completion.token_ids[-1] == EOS_ID)
        assert completion.finished or len(completion.token_ids) == 40
    assert 0 < sum(completion.finished for completion in done) < len(done)


def test_a_request_without_room_or_prompt_is_refused_before_any_work(engine):
    for prompt in ([], [7] * 60):
        with pytest.raises(DataError, match=r"request long: expected a prompt of 1 to 56 tokens"):
            engine.generate([*requests_of(), Request("long", prompt, 1)], 1.0, 1.0, 40)
    with pytest.raises(ConfigError, match="top_p"):
        engine.generate(requests_of(), 1.0, 0.0, 40)


def test_another_architecture_is_not_loaded_into_a_running_vllm(folders):
    with (
        open_tiny("vllm", folders["qwen2", 0]) as engine,
        pytest.raises(ModelError, match="expected the tensor names"),
    ):
        engine.load_weights(folders["opt", 0])


@pytest.mark.parametrize("family", ["qwen2", "gpt2", "opt"])
def test_logits_of_a_half_precision_model_are_not_rounded(folders, family):
    model, seen = PackedModel(load_model(folders[family, 0], "bfloat16"), 250), []
    model.model.base_model.register_forward_hook(lambda _, __, output: seen.append(output[0][:, -1]))
    found = model.next_logits(input_ids=torch.tensor([PROMPTS[0], PROMPTS[5]]))
    exact = seen[0].double() @ model.model.get_output_embeddings().weight[:250].double().T
    assert seen[0].dtype == torch.bfloat16 and found.dtype == torch.float32 and found.shape == (2, 250)
    assert (found - exact).abs().max() < 1e-5 < 1e-3 < (found.bfloat16() - exact).abs().max()


def test_token_choice_inverts_the_distribution_function():
    logits = torch.tensor([0.1, 0.6, 0.3]).log().expand(4, 3)
    uniforms = torch.tensor([0.0, 0.09, 0.5, 0.99], dtype=torch.float64)
    assert choose_tokens(logits, 1.0, 1.0, uniforms).tolist() == [0, 0, 1, 2]
    assert choose_tokens(logits, 1.0, 0.7, uniforms).tolist() == [1, 1, 1, 2]  # 1, then 2; 0 is outside
    assert choose_tokens(logits, 1.0, 0.5, uniforms).tolist() == [1, 1, 1, 1]
    assert choose_tokens(logits, 0.0, 1.0, uniforms).tolist() == [1, 1, 1, 1]


def test_sequence_seeds_are_pinned_and_distinct():
    assert sequence_seed(10, "a", 0) == 385032065
    assert len({sequence_seed(s, e, i) for s in (10, 20) for e in ("a", "b") for i in range(8)}) == 32
