"""Each model family packed and padded: what losses and the sampler see of a sequence does not depend on its batch."""

import re
from dataclasses import dataclass

import pytest
import torch
from safetensors import safe_open
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    PreTrainedModel,
    Qwen2Config,
)
from transformers.modeling_layers import GradientCheckpointingLayer

from distill.losses.candidate_sets import CandidateSets, top_p_sets
from distill.losses.cross_entropy import distilled_nll, token_nll
from distill.losses.states import States
from distill.methods.bd.objective import bellman
from distill.methods.bd.section import Bellman
from distill.methods.bd.trajectories import Trajectories
from distill.models.layers import count_layers
from distill.models.load import load_model, save_model
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences
from distill.models.vocabulary import agree_on_special_ids, declared_ids
from distill.sampling.transformers_engine import sample_sequences
from distill.training.engine import decay_groups
from tiny_models import EOS_ID, PAD_ID, make_model, make_tokenizer

VOCABULARY, P = 300, 0.8
GENERATOR = torch.Generator().manual_seed(7)
SPECIAL = {"eos_token_id": EOS_ID, "pad_token_id": PAD_ID, "bos_token_id": EOS_ID}
SHAPE = {"vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
GROUPED = {"num_key_value_heads": 1, "intermediate_size": 128, "initializer_range": 0.1}
NARROW = {"word_embed_proj_dim": 32, "ffn_dim": 128, "do_layer_norm_before": False, "init_std": 0.1}
SCALED = {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False, "initializer_range": 0.1}
VARIANTS = {
    "qwen2-grouped": lambda: Qwen2Config(**SHAPE, **GROUPED, **SPECIAL, tie_word_embeddings=True),
    "llama": lambda: LlamaConfig(**SHAPE, **GROUPED, **SPECIAL, tie_word_embeddings=False),
    "gpt2-scaled": lambda: GPT2Config(**SHAPE, **SCALED, **SPECIAL),
    "opt-350m": lambda: OPTConfig(**SHAPE, **NARROW, **SPECIAL),  # embeddings narrower than blocks, norms behind these
}
FAMILIES = ("qwen2", "gpt2", "opt", *VARIANTS)
RATES = ("dropout", "attention_dropout", "layerdrop", "resid_pdrop", "embd_pdrop", "attn_pdrop")
DROPOUT = LEARNT_POSITIONS = ("gpt2", "gpt2-scaled", "opt", "opt-350m")


def draw_pairs(*shapes):
    """Prompts and responses of (prompt, response, ends with EOS)."""
    return [
        (
            torch.randint(2, VOCABULARY, (prompt,), generator=GENERATOR).tolist(),
            torch.randint(2, VOCABULARY, (response,), generator=GENERATOR).tolist() + [EOS_ID] * done,
        )
        for prompt, response, done in shapes
    ]


PAIRS = draw_pairs((3, 6, 1), (17, 9, 0), (1, 2, 1), (9, 0, 1), (6, 14, 0))
EQUALLY_LONG = draw_pairs((3, 6, 1), (1, 9, 0), (9, 0, 1))
REPEATED = [([PAD_ID, 5, 5, PAD_ID], [7, PAD_ID, 5, EOS_ID]), ([5, 7], [5, 5])]  # a pad token learns as an output alone
DONE = torch.tensor([response[-1] == EOS_ID for _, response in PAIRS])


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folders(family, tmp_path_factory):
    """The student's and the teacher's folder."""
    root = tmp_path_factory.mktemp(family)
    if family not in VARIANTS:
        return [make_model(root / str(seed), family, vocabulary=VOCABULARY, seed=seed) for seed in (0, 1)]
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(VARIANTS[family](), dtype=torch.float32)
        model.generation_config = GenerationConfig(**SPECIAL)
        model.save_pretrained(root / str(seed))
        make_tokenizer(VOCABULARY).save_pretrained(root / str(seed))
    return [root / "0", root / "1"]


@dataclass(frozen=True)
class Layout:
    """Sequences as one padded batch; `rows`: flat positions of s_0 .. s_L of each."""

    input_ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor | None
    rows: torch.Tensor


def padded(pairs, right: bool = False, extra: int = 0) -> Layout:
    """As the sampler pads, EOS on the left and positions counted along the mask; or on the right, without positions."""
    width = extra + max(len(prompt) + len(response) for prompt, response in pairs)
    input_ids = torch.full((len(pairs), width), EOS_ID)
    mask, rows = torch.zeros_like(input_ids), []
    for index, (prompt, response) in enumerate(pairs):
        length = len(prompt) + len(response)
        start = 0 if right else width - length
        input_ids[index, start : start + length] = torch.tensor([*prompt, *response])
        mask[index, start : start + length] = 1
        rows.append(torch.arange(len(response) + 1) + index * width + start + len(prompt) - 1)
    return Layout(input_ids, mask, None if right else (mask.cumsum(-1) - 1).clamp(min=0), torch.cat(rows))


def padded_logits(model: PreTrainedModel, layout: Layout) -> torch.Tensor:
    """Logits at the states from transformers alone."""
    output = model(layout.input_ids, attention_mask=layout.mask, position_ids=layout.positions, use_cache=False)
    return output.logits.flatten(0, 1)[layout.rows]


def packed(model: PreTrainedModel, pairs) -> States:
    return PackedModel(model).states(pack_sequences(pairs, "cpu", with_final_state=True))


def by_sequence(values: torch.Tensor, pairs=PAIRS) -> tuple[torch.Tensor, ...]:
    """Values of all states as those of each sequence."""
    return values.split([len(response) + 1 for _, response in pairs])


@torch.no_grad()
@pytest.mark.parametrize("pairs", [PAIRS, EQUALLY_LONG], ids=["of many lengths", "of one length"])
def test_packed_states_are_those_of_each_sequence_alone_and_under_padding(folders, pairs):
    model = load_model(folders[0])
    expected = torch.cat([padded_logits(model, padded([pair])) for pair in pairs])
    paddings = [padded_logits(model, padded(pairs, right)) for right in (False, True)]
    alone = torch.cat([packed(model, [pair]).logits() for pair in pairs])
    assert model.config._attn_implementation == "packed"
    for found in (packed(model, pairs).logits(), alone, *paddings):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert expected.std() > 0.3


@pytest.mark.parametrize("pairs", [PAIRS, EQUALLY_LONG, REPEATED], ids=["of many lengths", "of one length", "repeated"])
def test_packing_gives_every_weight_the_gradient_of_padding(folders, pairs):
    tokens = torch.randint(0, VOCABULARY, (sum(len(response) + 1 for _, response in pairs),), generator=GENERATOR)
    gradients = []
    for logits in (lambda model: padded_logits(model, padded(pairs)), lambda model: packed(model, pairs).logits()):
        model = load_model(folders[0], "float64")
        cross_entropy(logits(model), tokens).backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    for name, expected in gradients[0].items():  # a key's bias has no gradient but rounding
        atol = 1e-6 * expected.abs().max().item() + 1e-12
        torch.testing.assert_close(gradients[1][name], expected, atol=atol, rtol=0, msg=name)


@torch.no_grad()
def test_the_order_of_packed_sequences_does_not_matter(folders):
    model = load_model(folders[0])
    hidden = by_sequence(packed(model, PAIRS).hidden)
    back = by_sequence(packed(model, PAIRS[::-1]).hidden, PAIRS[::-1])[::-1]
    for one, other in zip(hidden, back, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("pairs", [PAIRS, EQUALLY_LONG], ids=["of many lengths", "of one length"])
def test_a_packed_sequence_sees_nothing_of_its_neighbours(folders, pairs):
    model = load_model(folders[0])
    before = by_sequence(packed(model, pairs).hidden, pairs)
    for index, (prompt, response) in enumerate(pairs):
        others = [2 + (token + 5) % (VOCABULARY - 2) for token in (*prompt, *response)]
        changed = (others[: len(prompt)], others[len(prompt) :])
        after = by_sequence(packed(model, [*pairs[:index], changed, *pairs[index + 1 :]]).hidden, pairs)
        assert [torch.equal(*own) for own in zip(before, after, strict=True)] == [
            place != index for place in range(len(pairs))
        ]


def test_a_layer_that_would_not_read_the_sequence_lengths_fails(folders):
    model = load_model(folders[0])
    PackedModel(model)
    base_model = model.base_model.forward
    model.base_model.forward = lambda sequence_lengths, **arguments: base_model(**arguments)
    with pytest.raises(RuntimeError, match="size|shape"):
        packed(model, PAIRS)


def loss_sums(student: States, teacher: States, sets: CandidateSets, pairs, done) -> dict[str, tuple]:
    """(sum, weight) of every loss of fixed responses."""
    actions = torch.tensor([token for _, response in pairs for token in response])
    batch = Trajectories(actions, torch.tensor([len(response) for _, response in pairs]), done)
    terms = {
        "sft": token_nll(student[batch.state], actions),
        "kd": distilled_nll(student[batch.state], actions, teacher[batch.state], 0.5),
        "bd sampled": bellman(student, batch, sets, Bellman(oos_action="include")),
        "bd expected": bellman(student, batch, sets, Bellman(objective="expected", oos_action="include")),
        "bd released": bellman(student, batch, sets, Bellman(objective="released", p=P, reduction="token")),
    }
    return {name: (term.total, term.weight) for name, term in terms.items()}


@torch.no_grad()
def test_the_losses_of_packed_sequences_are_those_of_each_alone(folders):
    models = [load_model(folder) for folder in folders]
    together = [packed(model, PAIRS) for model in models]
    assert (together[0].logits() - together[1].logits()).abs().max() > 1
    sets = top_p_sets(together[1].logits().softmax(-1), P)  # one for both: a boundary may fall either way in a digit
    totals, start = {name: torch.zeros(2) for name in loss_sums(*together, sets, PAIRS, DONE)}, 0
    for index, pair in enumerate(PAIRS):
        own = slice(start, start := start + len(pair[1]) + 1)
        alone = [packed(model, [pair]) for model in models]
        single = loss_sums(*alone, sets[own], [pair], DONE[index : index + 1])
        totals = {name: totals[name] + torch.stack(single[name]) for name in totals}
    for name, (total, weight) in loss_sums(*together, sets, PAIRS, DONE).items():
        expected, count = totals[name]
        assert weight == count > 0, name
        assert (total / weight).item() == pytest.approx((expected / count).item(), rel=1e-5), name


@torch.no_grad()
def test_a_prompt_gives_the_same_logits_however_far_it_is_pushed_right(folders, family):
    """Learnt positions (OPT's with their offset of 2) count from the first token, not from the first column."""
    model = load_model(folders[0])
    prompt = [(PAIRS[1][0], [])]
    expected = padded_logits(model, padded(prompt))
    for extra in (1, 30):
        layout = padded(prompt, extra=extra)
        torch.testing.assert_close(padded_logits(model, layout), expected, atol=1e-5, rtol=0)
    columns = Layout(layout.input_ids, layout.mask, torch.arange(layout.mask.shape[1])[None], layout.rows)
    moved = (padded_logits(model, columns) - expected).abs().max()
    assert (moved > 0.1) == (family in LEARNT_POSITIONS)  # rotary positions are relative


def test_the_sampler_answers_a_prompt_alike_alone_and_in_a_padded_batch(folders):
    model = PackedModel(load_model(folders[0]))
    prompts, seeds = [prompt for prompt, _ in PAIRS], range(len(PAIRS))
    together = sample_sequences(model, prompts, seeds, EOS_ID, 1.0, 1.0, 12)
    alone = [
        sample_sequences(model, [prompt], [seed], EOS_ID, 1.0, 1.0, 12)[0]
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    assert together == alone
    assert len({tuple(response) for response in together}) == len(prompts)


def test_heads_stay_as_tied_as_they_were_through_training_and_files(folders, family, tmp_path):
    model = load_model(folders[0])
    before = model.get_output_embeddings().weight.detach().clone()
    packed(model, PAIRS).logits().logsumexp(-1).mean().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    save_model(model, folders[0], tmp_path / "saved")
    again = load_model(tmp_path / "saved")
    tied = family != "llama"
    for one in (model, again):
        assert (one.get_output_embeddings().weight is one.get_input_embeddings().weight) == tied
    assert (again.get_output_embeddings().weight - before).abs().max() > 1e-4
    assert torch.equal(packed(again, PAIRS).logits(), packed(model, PAIRS).logits())
    with safe_open(tmp_path / "saved" / "model.safetensors", "pt") as file:
        matrices = [key for key in file.keys() if file.get_slice(key).get_shape()[0] == VOCABULARY]  # noqa: SIM118
    assert len(matrices) == 2 - tied


def test_matrices_and_embeddings_decay_and_neither_biases_nor_norms(folders, family):
    model = PackedModel(load_model(folders[0]))
    names = {id(weight): name for name, weight in model.named_parameters()}
    decaying, rest = decay_groups(model, 0.3)
    assert (decaying["weight_decay"], rest["weight_decay"]) == (0.3, 0.0)
    found = [{names[id(weight)] for weight in group["params"]} for group in (decaying, rest)]
    kept = {name for name in names.values() if re.search(r"bias$|norm|\.ln_", name)}
    assert found == [{*names.values()} - kept, kept]
    assert len(kept) > 4 and any("embed" in name or "wte" in name for name in found[0])


def with_dropout(model: PreTrainedModel, **rates: float) -> PreTrainedModel:
    """Returns a copy with these dropout rates alone."""
    config = model.config
    for name in RATES:
        if hasattr(config, name):
            setattr(config, name, rates.get(name, 0.0))
    copy = type(model)(config)
    copy.load_state_dict(model.state_dict())
    return copy


@torch.no_grad()
def test_dropout_acts_in_training_mode_where_configured_and_never_in_evaluation_mode(folders, family):
    def hidden(model) -> torch.Tensor:
        return packed(model, PAIRS).hidden

    model = load_model(folders[0])
    expected = hidden(model)
    assert not model.training and torch.equal(hidden(model), expected)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert torch.equal(hidden(model.train()), hidden(model)) == (family not in DROPOUT)
    assert torch.equal(hidden(model.eval()), expected)
    torch.testing.assert_close(hidden(with_dropout(model).train()), expected, atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("pairs", [PAIRS, EQUALLY_LONG], ids=["of many lengths", "of one length"])
def test_attention_drops_out_in_packed_sequences_too(folders, pairs):
    model = load_model(folders[0])
    dropping = with_dropout(model, attn_pdrop=0.5, attention_dropout=0.5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = (packed(dropping.train(), pairs).hidden for _ in range(2))
    assert (first - second).abs().max() > 0.1
    assert torch.equal(packed(dropping.eval(), pairs).hidden, packed(model, pairs).hidden)


def test_disabled_dropout_makes_losses_repeat_in_training_mode_which_still_recomputes(folders):
    model = with_dropout(load_model(folders[0]), **dict.fromkeys(RATES, 0.1))
    student, teacher, config = PackedModel(model), packed(load_model(folders[1]), PAIRS), model.config.to_dict()
    sets, batch = top_p_sets(teacher.logits().softmax(-1), P), pack_sequences(PAIRS, "cpu", with_final_state=True)
    calls = []
    for block in (module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)):
        block.register_forward_pre_hook(lambda *_: calls.append(1))

    def losses() -> dict[str, float]:
        return {
            name: (total / weight).item()
            for name, (total, weight) in loss_sums(student.states(batch), teacher, sets, PAIRS, DONE).items()
        }

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student.eval()
        expected = losses()
        student.train()
        first, second = losses(), losses()
        assert all(len({first[name], second[name], expected[name]}) == 3 for name in expected)
        student.disable_dropout()
        assert losses() == losses() == expected
    student.enable_gradient_checkpointing()
    assert all(module.training for module in student.modules())
    calls.clear()
    student.states(batch).logits().logsumexp(-1).sum().backward()
    assert len(calls) == 2 * count_layers(model)
    assert model.config.to_dict() == config


def test_config_generation_config_and_tokenizer_name_one_eos(folders, tmp_path):
    model = load_model(folders[0])
    save_model(model, folders[0], tmp_path / "saved")
    again = load_model(tmp_path / "saved")
    for one in (model, again):
        assert one.config.eos_token_id == one.generation_config.eos_token_id == EOS_ID
    assert agree_on_special_ids(tmp_path / "saved", declared_ids(tmp_path / "saved")) == (EOS_ID, PAD_ID)
