"""Which blocks can go, and which cannot; that they go exactly is tested on random networks in test_generated.py."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from netadapt.errors import ConfigError, ModelError
from netadapt.network import load, save, trace
from netadapt.network.importance import LargestNorm, rank_by_norm
from netadapt.network.refit import LeastSquaresRefit

IMAGE = torch.zeros(1, 3, 8, 8)


def convolution(inputs: int, outputs: int, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1, groups=groups, bias=False), nn.BatchNorm2d(outputs))


class Basic(nn.Module):
    """The block of a ResNet; ``after`` is its last activation."""

    def __init__(self, channels: int = 8, hidden: int = 12, after: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.second = convolution(channels, hidden), convolution(hidden, channels)
        self.after = nn.ReLU() if after is None else after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(x + self.second(self.first(x).relu()))


class Bottleneck(Basic):
    """Two groups within."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = convolution(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.second(self.middle(self.first(x).relu()).relu())).relu()


class Bounded(Basic):
    """Hands on no more than 6."""

    def __init__(self) -> None:
        super().__init__(after=nn.ReLU6())


class Bare(nn.Module):
    """No modules within: all of its layers bear its own name, the later ones with a number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Parameter(torch.randn(8, 8) / 8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.linear(nn.functional.linear(x.movedim(1, 3), self.first).relu(), self.second).relu()
        return x + nn.functional.linear(y, self.third).movedim(3, 1)


class Gated(Basic):
    """Uses a module that others use too."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.second(self.gate(self.first(x)))).relu()


class Table(nn.Module):
    """A buffer and no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.table


class Plain(Basic):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu()).relu()


class Net(nn.Module):
    def __init__(self, *blocks: nn.Module, times: int = 1, rectified: bool = True) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = convolution(3, 8), nn.Sequential(*blocks), nn.Linear(8, 5)
        self.times, self.rectified = times, rectified

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x.relu() if self.rectified else x
        for _ in range(self.times):
            x = self.blocks(x)
        return self.head(x.mean((2, 3)))


class Watched(Net):
    """Looks into a block in train mode only."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + (self.blocks[0].first[0].weight.sum() if self.training else 0.0)


class Peeking(Net):
    """Its forward reads a parameter of the first block."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.blocks[0].first[0].weight.sum()


def network_of(*blocks: nn.Module, kind: type[Net] = Net, **how):
    torch.manual_seed(0)
    return trace(kind(*blocks, **how).eval(), IMAGE, blocks=True)


def able(network) -> list[str]:
    return [group.block for group in network.groups if group.block]


@pytest.mark.parametrize(
    "block",
    [
        Basic(),
        Bottleneck(),
        Basic(after=nn.Identity()),
        nn.Sequential(Basic()),
        Bare(),
        nn.TransformerEncoderLayer(8, 2, 16, norm_first=True, batch_first=True),
    ],
    ids=["basic", "bottleneck", "no activation", "in a sequence", "bare", "transformer"],
)
def test_a_residual_block_can_go(block):
    class Sequence(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.block, self.head = nn.Linear(3, 8), block, nn.Linear(8, 5)

        def forward(self, x):
            return self.head(self.block(self.stem(x).relu()).mean(1))

    if isinstance(block, nn.TransformerEncoderLayer):
        network, name = trace(Sequence().eval(), torch.zeros(2, 6, 3), exact=False, blocks=True), "block"
    else:
        network, name = network_of(block), "blocks.0.0" if isinstance(block, nn.Sequential) else "blocks.0"
    assert able(network) == [name]
    [group] = [group for group in network.groups if group.block]
    small = network.shrink({group.name: []})
    assert type(small.get_submodule(name)) is nn.Identity
    assert network.equals_masked({group.name: []}) < 1e-12
    assert network.macs({group.name: 0}) == trace(small, network.example_inputs, prove=False).macs()


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (lambda: network_of(Plain()), "it hands nothing on"),
        (lambda: network_of(Basic(), rectified=False), "its activation changes what comes in"),
        (lambda: network_of(Bounded()), "it has an upper bound"),
        (lambda: network_of(Basic(), times=2), "it is called twice"),
        (lambda: network_of(Basic(), kind=Watched), "train mode looks into it"),
        (lambda: network_of(Basic(), kind=Peeking), "forward looks into it"),
    ],
)
def test_other_blocks_cannot(network, why):
    assert able(network()) == [], why


@pytest.mark.parametrize("shared", [nn.PReLU(), Table()], ids=["parameter", "buffer"])
def test_blocks_that_share_something_go_with_what_holds_all_of_it(shared):
    assert able(network_of(Gated(shared), Gated(shared))) == ["blocks"]
    assert able(network_of(Gated(shared), Plain(), Gated(shared))) == []


def test_a_block_in_two_places_goes_with_what_holds_both():
    assert able(network_of(*[Basic()] * 2)) == ["blocks"]


def test_one_block_that_cannot_go_does_not_keep_the_others():
    network = network_of(Basic(), Basic(), Plain(), Basic(), kind=Peeking)
    assert able(network) == ["blocks.1", "blocks.3"]


def test_a_block_whose_weights_others_use_cannot_go():
    first, second = Basic(), Basic()
    second.first[0].weight = first.first[0].weight
    assert "blocks.0" not in able(network_of(first, second))


@pytest.mark.parametrize("keep", ["blocks.0", "blocks.0.second.0", "blocks.0.*"])
def test_what_is_to_be_kept_does_not_go_with_its_block(keep):
    model = Net(Basic(), Basic()).eval()
    assert able(trace(model, IMAGE, keep=[keep], blocks=True)) == ["blocks.1"]


def test_a_network_that_does_not_run_in_double_precision_has_no_blocks():
    class Single(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.float())

    assert able(network_of(Basic(), kind=Single)) == []


def test_layers_that_go_with_a_block_are_not_counted_as_fixed():
    network = network_of(Basic())
    kept = trace(network.model, IMAGE, keep=["blocks.0.first.0", "blocks.0.second.0"])
    assert network.pinned_share == 0 < kept.pinned_share
    assert all(layer.gate is None for layer in kept.layers)


def test_blocks_are_offered_only_where_asked_for():
    model = Net(Basic()).eval()
    plain = trace(model, IMAGE)
    assert able(plain) == []
    assert plain.structure_hash() != trace(model, IMAGE, blocks=True).structure_hash()
    with pytest.raises(ModelError, match="at least one index"):
        plain.shrink({"blocks.0.first.0": []})
    with pytest.raises(ModelError, match=r"width 0 of group .* is outside 1\.\.12"):
        plain.vector({"blocks.0.first.0": 0})
    with pytest.raises(ModelError, match=r"width 0 of group 'stem.0' is outside 1\.\.8"):
        trace(model, IMAGE, blocks=True).vector({"stem.0": 0})


def test_a_block_that_is_gone_stays_gone_and_others_go_after_it():
    network = network_of(Basic(), Basic(), Basic())
    once = network.shrink({"blocks.1.first.0": [], "stem.0": range(6)})
    twice = network.shrink({"blocks.0.first.0": [], "blocks.2.first.0": [0, 5]}, weights_of=once)
    assert network.widths_of(twice) == {
        "stem.0": 6,
        "blocks.0.first.0": 0,
        "blocks.1.first.0": 0,
        "blocks.2.first.0": 2,
    }
    network.verify_shrink(once, network.kept_of(twice), twice)
    with pytest.raises(ModelError, match="already lost"):
        network.shrink({"blocks.1.first.0": [0]}, weights_of=once)


def test_saved_without_a_block(tmp_path):
    network = network_of(Basic(), Bottleneck(), Basic())
    small = network.shrink({"blocks.1.first.0": [], "blocks.2.first.0": [1, 3]})
    save(small, network, tmp_path)
    loaded = load(tmp_path, Net(Basic(), Bottleneck(), Basic())).eval()
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(loaded(x), small(x))
    assert network.kept_of(loaded) == network.kept_of(small)
    save(network.shrink({"blocks.1.first.0": []}), network, tmp_path)
    with pytest.raises(ModelError, match=r"leaves out 'blocks\.1', which is no module of"):
        load(tmp_path, Net(Basic()))
    plan = json.loads((tmp_path / "architecture.json").read_text())
    plan["attributes"] = {"blocks.1.first.0": {"out_channels": 3}}
    (tmp_path / "architecture.json").write_text(json.dumps(plan))
    with pytest.raises(ModelError, match=r"cuts blocks\.1\.first\.0, which is in a block that it leaves out"):
        load(tmp_path, Net(Basic(), Bottleneck(), Basic()))


def test_a_network_with_all_of_its_blocks_is_saved_as_ever(tmp_path):
    network = network_of(Basic())
    save(network.shrink({"blocks.0.first.0": [0, 4]}), network, tmp_path)
    assert "without" not in json.loads((tmp_path / "architecture.json").read_text())


def test_filters_are_chosen_and_re_fitted_around_a_block_that_goes():
    network = network_of(Basic(), Basic())
    torch.manual_seed(1)
    batches = [torch.randn(32, 3, 8, 8) for _ in range(3)]
    for filters in (LargestNorm(network), LeastSquaresRefit(network, network.model, batches)):
        filters.prepare(network.model)
        assert filters.choose("blocks.0.first.0", 0) == ()
        alone = filters.apply({"blocks.0.first.0": ()})
        filters.prepare(alone)
        kept = {name: filters.choose(name, width) for name, width in (("stem.0", 5), ("blocks.1.first.0", 4))}
        assert network.widths_of(filters.apply(kept)) == {"stem.0": 5, "blocks.0.first.0": 0, "blocks.1.first.0": 4}
        with pytest.raises(ConfigError, match=r"width of stem\.0: 0 is not in 1\.\.8"):
            filters.choose("stem.0", 0)
    assert len(rank_by_norm(network, alone, "stem.0")) == 8
