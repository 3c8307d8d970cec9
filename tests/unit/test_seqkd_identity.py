"""BD at p = 1 without chi-square and floor is SeqKD: same loss, same gradient of every weight of a model."""

import pytest
import torch

from distill.losses.cross_entropy import token_nll
from distill.methods.bd.objective import bellman
from distill.methods.bd.section import Bellman
from distill.methods.bd.trajectories import Trajectories
from distill.models.load import load_model
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences
from tiny_models import EOS_ID, make_model

VOCABULARY = 300


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = make_model(tmp_path_factory.mktemp("student"), vocabulary=VOCABULARY, initializer_range=0.3)
    return PackedModel(load_model(folder, "float64"), VOCABULARY - 10)  # as with embedding rows that no token names


def draw(seed: int) -> tuple[list[tuple[list[int], list[int]]], torch.Tensor]:
    """Prompts and responses of many lengths; some end with EOS (a lone one among them), some were cut."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (), generator=generator))
        return torch.randint(2, VOCABULARY - 10, (length,), generator=generator).tolist()

    done = [True, False, True, False, True, True]
    pairs = [(tokens(1, 12), tokens(1, 15) + [EOS_ID] * ended) for ended in done]
    pairs[-1] = pairs[-1][0], [EOS_ID]
    return pairs, torch.tensor(done)


def loss_and_gradients(model, terms) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    terms.mean.backward()
    return terms.mean.item(), {name: weight.grad.clone() for name, weight in model.named_parameters()}


def bd(model, pairs, done, **options):
    batch = pack_sequences(pairs, "cpu", with_final_state=True)
    trajectories = Trajectories(batch.actions, torch.tensor(batch.response_lengths), done)
    options = Bellman(**{"chi2": "none", "q_min": None} | options)
    return loss_and_gradients(model, bellman(model.states(batch), trajectories, None, options))


def seqkd(model, pairs):
    batch = pack_sequences(pairs, "cpu", with_final_state=False)
    return loss_and_gradients(model, token_nll(model.states(batch), batch.actions))


def furthest(gradients, others) -> float:
    """Largest distance of two gradients of one weight tensor, relative to its norm."""
    assert gradients.keys() == others.keys()
    return max(((gradients[name] - other).norm() / other.norm()).item() for name, other in others.items())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", [{}, {"gamma": 0.3}, {"q_shift": "lse"}, {"q_shift": "none"}], ids=str)
def test_loss_and_every_gradient_are_those_of_seqkd(model, seed, options):
    pairs, done = draw(seed)
    loss, gradients = bd(model, pairs, done, **options)
    expected, others = seqkd(model, pairs)
    assert loss == pytest.approx(expected, rel=1e-12)
    assert furthest(gradients, others) < 1e-6
    assert min(other.norm() for other in others.values()) > 0


@pytest.mark.parametrize(
    "options", [{"chi2": "printed"}, {"q_min": -2.0}, {"eos_action": "exclude"}, {"truncation": "drop_last"}], ids=str
)
def test_any_other_setting_is_another_method(model, options):
    pairs, done = draw(0)
    loss, gradients = bd(model, pairs, done, **options)
    expected, others = seqkd(model, pairs)
    assert abs(loss - expected) > 1e-3 and furthest(gradients, others) > 1e-2
