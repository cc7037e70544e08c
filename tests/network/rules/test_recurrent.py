"""Recurrent layers between a convolution and a classifier, as text recognisers have them."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from torch import Tensor, nn

from netadapt.network import load, save, trace
from netadapt.network.importance import LargestNorm
from netadapt.network.prove import difference
from netadapt.network.refit import LeastSquaresRefit

KINDS = {"lstm": (nn.LSTM, 4), "gru": (nn.GRU, 3), "tanh": (nn.RNN, 1)}
CHANNELS, HIDDEN, LETTERS = 5, 6, 4


class Recogniser(nn.Module):
    """Columns of a picture become a sequence; ``given``: the first state is computed from the picture."""

    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM, *, given: bool = False, **options) -> None:
        super().__init__()
        self.columns = nn.Conv2d(1, CHANNELS, (8, 3), padding=(0, 1))
        self.rnn = kind(CHANNELS, HIDDEN, **options)
        self.first = nn.Linear(CHANNELS, HIDDEN) if given else None
        self.letters = nn.Linear(HIDDEN * (1 + self.rnn.bidirectional), LETTERS)

    def forward(self, image: Tensor) -> Tensor:
        x = self.columns(image).relu().squeeze(2)
        x = x.transpose(1, 2) if self.rnn.batch_first else x.permute(2, 0, 1)
        if self.first is None:
            return self.letters(self.rnn(x)[0])
        state = self.first(x.mean(int(self.rnn.batch_first))).tanh()[None]
        return self.letters(self.rnn(x, state)[0])


def picture() -> Tensor:
    return torch.randn(2, 1, 8, 7, generator=torch.Generator().manual_seed(1))


def check(model: nn.Module, sets: int = 4):
    network = trace(model.eval(), picture())
    rng = random.Random(0)
    for _ in range(sets):
        kept = {g.name: sorted(rng.sample(range(g.width), rng.randint(1, g.width))) for g in network.groups}
        error, scale = difference(network, kept, network.model)
        assert scale > 0 and error <= 1e-10 * scale, kept
        small, widths = network.shrink(kept), {name: len(units) for name, units in kept.items()}
        assert network.parameters(widths) == sum(p.numel() for p in small.parameters())
    return network


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bidirectional": True, "batch_first": True},
        {"num_layers": 2, "bias": False},
        {"num_layers": 2, "bidirectional": True, "batch_first": True},
    ],
)
def test_inputs_and_hidden_units_are_cut_exactly(kind, options):
    cls, gates = KINDS[kind]
    network = check(Recogniser(cls, **options))
    assert network.widths == {"columns": CHANNELS, "rnn": HIDDEN}
    assert [pinned.layer for pinned in network.pinned] == ["letters"]
    layers, ways = options.get("num_layers", 1), 2 if options.get("bidirectional") else 1

    def macs(channels: int, hidden: int) -> int:
        above = (layers - 1) * (ways * hidden + hidden)
        recurrent = ways * gates * hidden * (channels + hidden + above)
        return 2 * 7 * (24 * channels + recurrent + ways * hidden * LETTERS)

    assert network.macs() == macs(CHANNELS, HIDDEN)
    assert network.macs({"columns": 2, "rnn": 3}) == macs(2, 3)


@pytest.mark.filterwarnings("ignore:The tensor attributes")  # torch.export of any torch.nn.LSTM
def test_the_smaller_network_is_a_recogniser_like_any_other(tmp_path):
    network = check(Recogniser(num_layers=2, bidirectional=True, batch_first=True))
    small = network.shrink({"columns": [0, 3], "rnn": [1, 2, 5]})
    assert (small.rnn.input_size, small.rnn.hidden_size) == (2, 3)
    expected = small(picture())
    assert torch.equal(copy.deepcopy(small)(picture()), expected)
    small.train()(picture()).sum().backward()
    assert small.rnn.weight_hh_l1_reverse.grad.shape == (12, 3)
    with torch.no_grad():
        small.rnn.weight_hh_l0.mul_(2)
    assert not torch.equal(small.eval()(picture()), expected), "the weights in use are the module's own"
    save(small, network, tmp_path)
    again = load(tmp_path, Recogniser(num_layers=2, bidirectional=True, batch_first=True)).eval()
    assert torch.equal(again(picture()), small(picture()))
    exported = torch.export.export(small, (picture(),), strict=False).module()
    assert torch.allclose(exported(picture()), small(picture()))


@pytest.mark.parametrize("kind", [LargestNorm, LeastSquaresRefit])
def test_units_are_chosen_and_what_reads_them_is_fitted(kind):
    network = check(Recogniser(num_layers=2, bidirectional=True, batch_first=True), 1)
    if kind is LargestNorm:
        filters = LargestNorm(network, lambda module: module)
    else:
        filters = LeastSquaresRefit(network, network.model, [torch.randn(16, 1, 8, 7)], images=16)
    filters.prepare(network.model)
    small = filters.apply({group.name: filters.choose(group.name, 3) for group in network.groups})
    assert network.widths_of(small) == {"columns": 3, "rnn": 3} and small(picture()).isfinite().all()


def test_a_first_state_that_is_computed_follows():
    network = check(Recogniser(nn.GRU, given=True))
    assert network.widths == {"columns": CHANNELS, "first": HIDDEN}
    small = network.shrink({"first": [0, 4]})
    assert small.first.out_features == small.rnn.hidden_size == 2


def test_a_first_state_that_is_a_parameter_follows():
    class Learnt(Recogniser):
        def __init__(self) -> None:
            super().__init__(nn.GRU)
            self.state = nn.Parameter(torch.randn(1, 1, HIDDEN))

        def forward(self, image: Tensor) -> Tensor:
            x = self.columns(image).relu().squeeze(2).permute(2, 0, 1)
            return self.letters(self.rnn(x, self.state.expand(-1, x.shape[1], -1).contiguous())[0])

    assert check(Learnt()).widths == {"columns": CHANNELS, "rnn": HIDDEN}


def test_what_is_returned_stays():
    class Stateful(Recogniser):
        def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
            x = self.columns(image).relu().squeeze(2).permute(2, 0, 1)
            x, (state, _) = self.rnn(x)
            return self.letters(x), state

    network = check(Stateful())
    assert network.widths == {"columns": CHANNELS}
    assert "its channels are the network's output" in {pinned.reason for pinned in network.pinned}


def test_dropout_between_layers_hides_nothing_in_train_mode():
    network = check(Recogniser(num_layers=2, dropout=0.3), 1)
    assert network.proof.modes == ("eval", "train") and network.model.rnn.dropout == 0.3


def test_parametrised_weights_stay_whole():
    model = Recogniser()
    nn.utils.parametrizations.weight_norm(model.rnn, "weight_ih_l0")
    network = trace(model.eval(), picture())
    assert network.shrink({})(picture()).shape == (7, 2, LETTERS)


def test_a_projected_layer_stays_whole():
    model = Recogniser(proj_size=3)
    model.letters = nn.Linear(3, LETTERS)
    network = check(model)
    assert network.widths == {}
    assert any("packed, projected" in pinned.reason for pinned in network.pinned)
