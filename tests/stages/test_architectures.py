"""Each model family under padding: what the losses and the sampler see of a sequence does not depend on its batch."""

from dataclasses import dataclass

import pytest
import torch
from safetensors import safe_open
from transformers import GenerationConfig, OPTConfig, OPTForCausalLM, PreTrainedModel

from distill.data.batches import pad_sequences
from distill.losses.bellman_options import BellmanOptions, ReleasedOptions
from distill.losses.candidate_sets import CandidateSets, top_p_sets
from distill.losses.cross_entropy import distilled_nll, token_nll
from distill.losses.reference import Trajectories, bellman_released, bellman_sampled
from distill.model_folders import agree_on_special_ids, declared_ids
from distill.models import RowLogits, load_model, save_model
from distill.sampling.transformers_engine import sample_sequences
from tiny_models import EOS_ID, PAD_ID, make_model, make_tokenizer

VOCABULARY, P = 300, 0.8
FAMILIES = ("qwen2", "gpt2", "opt", "opt-350m")
DROPOUT = ("gpt2", "opt", "opt-350m")
LEARNT_POSITIONS = DROPOUT
GENERATOR = torch.Generator().manual_seed(7)
PAIRS = [
    (
        torch.randint(2, VOCABULARY, (prompt,), generator=GENERATOR).tolist(),
        torch.randint(2, VOCABULARY, (response,), generator=GENERATOR).tolist() + [EOS_ID] * done,
    )
    for prompt, response, done in ((3, 6, 1), (17, 9, 0), (1, 2, 1), (9, 0, 1), (6, 14, 0))
]
DONE = torch.tensor([response[-1] == EOS_ID for _, response in PAIRS])


def make_opt_350m(folder, seed):
    """Saves an OPT of OPT-350m's kind: embeddings narrower than the blocks, and layer norms behind these."""
    special = {"eos_token_id": EOS_ID, "pad_token_id": PAD_ID, "bos_token_id": EOS_ID}
    shape = {"hidden_size": 64, "ffn_dim": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "init_std": 0.1}
    narrow = {"word_embed_proj_dim": 32, "do_layer_norm_before": False, "max_position_embeddings": 512}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = OPTForCausalLM(OPTConfig(vocab_size=VOCABULARY, **shape, **narrow, **special))
    model.generation_config = GenerationConfig(**special)
    model.save_pretrained(folder)
    make_tokenizer(VOCABULARY).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folders(family, tmp_path_factory):
    """The student's and the teacher's folder."""
    root = tmp_path_factory.mktemp(family)
    if family == "opt-350m":
        return [make_opt_350m(root / str(seed), seed) for seed in (0, 1)]
    return [make_model(root / str(seed), family, vocabulary=VOCABULARY, seed=seed) for seed in (0, 1)]


@dataclass(frozen=True)
class Layout:
    """Sequences as one padded batch; `rows`: flat positions of s_0 .. s_L of each."""

    input_ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor | None
    rows: torch.Tensor


def right_padded(pairs) -> Layout:
    batch = pad_sequences(pairs, "cpu", with_final_state=True)
    return Layout(batch.input_ids, batch.attention_mask, None, batch.rows)


def left_padded(pairs, extra: int = 0) -> Layout:
    """As the sampler pads: EOS on the left, positions counted along the mask."""
    width = extra + max(len(prompt) + len(response) for prompt, response in pairs)
    input_ids = torch.full((len(pairs), width), EOS_ID)
    mask, rows = torch.zeros_like(input_ids), []
    for index, (prompt, response) in enumerate(pairs):
        start = width - len(prompt) - len(response)
        input_ids[index, start:] = torch.tensor([*prompt, *response])
        mask[index, start:] = 1
        rows.append(torch.arange(len(response) + 1) + index * width + start + len(prompt) - 1)
    return Layout(input_ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), torch.cat(rows))


@torch.no_grad()
def state_logits(model: PreTrainedModel, layout: Layout) -> torch.Tensor:
    """Logits at the states, as training takes them (RowLogits), or as the sampler does where positions are given."""
    if layout.positions is None:
        return RowLogits(model, VOCABULARY)(layout.input_ids, layout.mask, layout.rows)
    output = model(layout.input_ids, attention_mask=layout.mask, position_ids=layout.positions, use_cache=False)
    return output.logits.flatten(0, 1)[layout.rows]


def one_by_one(model: PreTrainedModel) -> torch.Tensor:
    return torch.cat([state_logits(model, right_padded([pair])) for pair in PAIRS])


def loss_sums(student: torch.Tensor, teacher: torch.Tensor, sets: CandidateSets, pairs, done) -> dict[str, tuple]:
    """(sum, weight) of every loss of fixed responses."""
    actions = torch.tensor([token for _, response in pairs for token in response])
    batch = Trajectories(actions, torch.tensor([len(response) for _, response in pairs]), done)
    terms = {
        "sft": token_nll(student[batch.state], actions),
        "kd": distilled_nll(student[batch.state], actions, teacher[batch.state], 0.5),
        "bd sampled": bellman_sampled(student, batch, sets, BellmanOptions(oos_action="include")),
        "bd expected": bellman_sampled(student, batch, sets, BellmanOptions("expected", oos_action="include")),
        "bd released": bellman_released(student, batch, sets, ReleasedOptions(p=P, reduction="token")),
    }
    return {name: (term.total, term.weight) for name, term in terms.items()}


@pytest.mark.parametrize("pad", [right_padded, left_padded])
def test_padding_changes_no_logits_and_no_loss(folders, pad):
    models = [load_model(folder) for folder in folders]
    alone, together = ([f(model) for model in models] for f in (one_by_one, lambda m: state_logits(m, pad(PAIRS))))
    for single, batched in zip(alone, together, strict=True):
        torch.testing.assert_close(batched, single, atol=1e-5, rtol=0)
    assert alone[0].std() > 0.3 and (alone[0] - alone[1]).abs().max() > 1

    sets = top_p_sets(alone[1].softmax(-1), P)  # of one layout: a boundary may fall either way in the last digit
    batched = loss_sums(*together, sets, PAIRS, DONE)
    totals, start = {name: torch.zeros(2) for name in batched}, 0
    for index, pair in enumerate(PAIRS):
        own = slice(start, start := start + len(pair[1]) + 1)
        single = loss_sums(alone[0][own], alone[1][own], sets[own], [pair], DONE[index : index + 1])
        totals = {name: totals[name] + torch.stack(single[name]) for name in totals}
    for name, (total, weight) in batched.items():
        expected, count = totals[name]
        assert weight == count > 0, name
        assert (total / weight).item() == pytest.approx((expected / count).item(), rel=1e-5), name


def test_a_prompt_gives_the_same_logits_however_far_it_is_pushed_right(folders, family):
    """Learnt positions (OPT's with their offset of 2) count from the first token, not from the first column."""
    model = load_model(folders[0])
    prompt = [(PAIRS[1][0], [])]
    expected = state_logits(model, right_padded(prompt))
    for extra in (0, 1, 30):
        padded = left_padded(prompt, extra)
        torch.testing.assert_close(state_logits(model, padded), expected, atol=1e-5, rtol=0)
    columns = Layout(padded.input_ids, padded.mask, torch.arange(padded.mask.shape[1])[None], padded.rows)
    moved = (state_logits(model, columns) - expected).abs().max()
    assert (moved > 0.1) == (family in LEARNT_POSITIONS)  # rotary positions are relative


def test_the_sampler_answers_a_prompt_alike_alone_and_in_a_padded_batch(folders):
    model = load_model(folders[0])
    prompts, seeds = [prompt for prompt, _ in PAIRS], range(len(PAIRS))
    together = sample_sequences(model, prompts, seeds, EOS_ID, 1.0, 1.0, 12)
    alone = [
        sample_sequences(model, [prompt], [seed], EOS_ID, 1.0, 1.0, 12)[0]
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    assert together == alone
    assert len({tuple(response) for response in together}) == len(prompts)


def test_tied_heads_stay_tied_through_training_and_files(folders, tmp_path):
    model = load_model(folders[0])
    before = model.get_output_embeddings().weight.detach().clone()
    batch = right_padded(PAIRS)
    RowLogits(model)(batch.input_ids, batch.mask, batch.rows).logsumexp(-1).mean().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    save_model(model, folders[0], tmp_path / "saved")
    again = load_model(tmp_path / "saved")
    for one in (model, again):
        assert one.get_output_embeddings().weight is one.get_input_embeddings().weight
    assert (again.get_output_embeddings().weight - before).abs().max() > 1e-4
    assert torch.equal(state_logits(again, batch), state_logits(model, batch))
    with safe_open(tmp_path / "saved" / "model.safetensors", "pt") as file:
        matrices = [key for key in file.keys() if file.get_slice(key).get_shape()[0] == VOCABULARY]  # noqa: SIM118
    assert len(matrices) == 1


def test_dropout_acts_in_training_mode_where_configured_and_never_in_evaluation_mode(folders, family):
    layout = right_padded(PAIRS)

    def twice(model) -> bool:
        return torch.equal(state_logits(model, layout), state_logits(model, layout))

    model = load_model(folders[0])
    assert not model.training and twice(model)
    expected = state_logits(model, layout)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert twice(model.train()) == (family not in DROPOUT)
    assert torch.equal(state_logits(model.eval(), layout), expected)

    config = model.config
    for name in ("dropout", "attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    off = type(model)(config).train()
    off.load_state_dict(model.state_dict())
    torch.testing.assert_close(state_logits(off, layout), expected, atol=1e-6, rtol=0)


def test_config_generation_config_and_tokenizer_name_one_eos(folders, tmp_path):
    model = load_model(folders[0])
    save_model(model, folders[0], tmp_path / "saved")
    again = load_model(tmp_path / "saved")
    for one in (model, again):
        assert one.config.eos_token_id == one.generation_config.eos_token_id == EOS_ID
    assert agree_on_special_ids(tmp_path / "saved", declared_ids(tmp_path / "saved")) == (EOS_ID, PAD_ID)
