"""Groups over which a norm takes its statistics: offered when asked for, proved with twins, cut as by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import netadapt
from netadapt.errors import ModelError
from netadapt.network import trace
from netadapt.network.bench import outputs_of
from netadapt.network.saving import save
from netadapt.network.twins import classes_of, masked, one_of_each, twinned

TOKENS = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
IMAGE = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


class Mixed(nn.Module):
    """Two layers with something between them that runs over the channels."""

    def __init__(self, between):
        super().__init__()
        self.first, self.between, self.last = nn.Linear(6, 8), between, nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.between(self.first(x)))


class By(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Standardised(nn.Conv2d):
    """A convolution whose weight is normalised in forward, with a gain for each output, as NFNets do it."""

    def __init__(self, *args, by_hand=False, **settings):
        super().__init__(*args, **settings)
        self.gain, self.by_hand = nn.Parameter(torch.rand(self.out_channels, 1, 1, 1) + 0.5), by_hand

    def forward(self, x):
        if self.by_hand:
            centred = self.weight - self.weight.mean([1, 2, 3], keepdim=True)
            weight = self.gain * centred / (centred.square().mean([1, 2, 3], keepdim=True) + 1e-6).sqrt()
        else:
            flat = self.weight.reshape(1, self.out_channels, -1)
            normal = F.batch_norm(flat, None, None, weight=self.gain.view(-1), training=True, momentum=0.0, eps=1e-6)
            weight = normal.reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


@pytest.mark.parametrize(
    "between",
    [
        nn.LayerNorm(8),
        nn.RMSNorm(8),
        By(lambda x: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)),
        By(lambda x: x * x.norm(dim=1, keepdim=True) / (x.norm(dim=1, keepdim=True).mean(-1, keepdim=True) + 1e-6)),
        By(lambda x: x * torch.sigmoid(x.amax(-1, keepdim=True))),
        By(lambda x: x - x.sum(-1, keepdim=True) / x.shape[-1]),
    ],
    ids=["layer norm", "rms norm", "rms by hand", "global response", "spatial gate", "mean by hand"],
)
def test_statistics_over_channels_are_offered_only_when_asked_for(between):
    net = Mixed(between)
    exact, inexact = trace(net, TOKENS), trace(net, TOKENS, exact=False)
    assert not exact.groups
    (group,) = inexact.groups
    assert (group.name, group.width, group.minimum) == ("first", 8, 2)
    assert group.inexact and not inexact.proof.failures


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * torch.sigmoid(x.sum(-1, keepdim=True)),
        lambda x: x.softmax(-1),
        lambda x: x / (x.norm(dim=-1, keepdim=True) + 1e-6),
        lambda x: x / (x.std(-1, keepdim=True) + 1e-6),  # divides by one less than there are
        lambda x: x - x.sum(-1, keepdim=True) / 8,
        lambda x: x * torch.linspace(1, 2, 8),
    ],
    ids=["sum", "softmax", "length", "unbiased", "written size", "constants"],
)
def test_what_depends_on_how_many_there_are_stays_pinned(function):
    assert not trace(Mixed(By(function)), TOKENS, exact=False).groups


def test_the_cut_network_is_the_one_written_out_by_hand():
    net = Mixed(nn.LayerNorm(8)).double()
    kept, x = [0, 2, 3, 7], TOKENS.double()
    small = trace(net, x, exact=False).shrink({"first": kept})
    inner = F.linear(x, net.first.weight[kept], net.first.bias[kept])
    normal = F.layer_norm(inner, (4,), net.between.weight[kept], net.between.bias[kept])
    torch.testing.assert_close(small(x), F.linear(normal, net.last.weight[:, kept], net.last.bias))
    assert small.between.normalized_shape == (4,)


@pytest.mark.parametrize("by_hand", [False, True])
def test_standardised_weights_are_cut_as_by_hand(by_hand):
    net = nn.Sequential(
        Standardised(3, 8, 3, by_hand=by_hand), nn.SiLU(), Standardised(8, 6, 3, by_hand=by_hand), nn.Conv2d(6, 2, 1)
    ).double()
    network = trace(net, IMAGE.double(), exact=False)
    assert network.widths == {"0": 8, "2": 6} and not network.proof.failures
    assert network.group("0").inexact and not network.group("2").inexact
    assert trace(net, IMAGE.double()).widths == {"2": 6}
    kept = [1, 4, 6]
    small = network.shrink({"0": kept})
    first, second = Standardised(3, 3, 3).double(), Standardised(3, 6, 3).double()
    first.load_state_dict({key: value[kept] for key, value in net[0].state_dict().items()})
    second.load_state_dict({**net[2].state_dict(), "weight": net[2].weight[:, kept]})
    x = IMAGE.double()
    torch.testing.assert_close(small(x), net[3](second(F.silu(first(x)))), rtol=1e-5, atol=1e-6)


def test_one_norm_over_all_channels_stays_one():
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(1, 8), nn.Conv2d(8, 2, 1))
    small = trace(net, IMAGE, exact=False).shrink({"0": [1, 2, 5]})
    assert (small[1].num_groups, small[1].num_channels) == (1, 3)


def test_a_residual_stream_through_norms_attention_and_a_table_of_positions_is_one_group(tmp_path):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.heads, self.head_dim = nn.LayerNorm(12), 3, 4
            self.qkv, self.proj = nn.Linear(12, 36), nn.Linear(12, 12)
            self.second, self.up, self.down = nn.LayerNorm(12), nn.Linear(12, 16), nn.Linear(16, 12)

        def forward(self, x):
            b, n, _ = x.shape
            q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, -1)
            x = x + self.proj(mixed)
            return x + self.down(F.gelu(self.up(self.second(x))))

    class Tiny(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.positions = nn.Linear(6, 12), nn.Parameter(torch.randn(1, 5, 12))
            self.blocks, self.norm, self.head = nn.Sequential(Block(), Block()), nn.LayerNorm(12), nn.Linear(12, 3)

        def forward(self, x):
            return self.head(self.norm(self.blocks(self.embed(x) + self.positions)).mean(1))

    net = Tiny()
    network = trace(net, TOKENS, exact=False)
    inexact = [group for group in network.groups if group.inexact]
    assert [group.width for group in inexact] == [12] and len(network.groups) == 5
    kept = {inexact[0].name: [0, 1, 3, 5, 8, 9, 11], "blocks.0.qkv": [0, 2]}
    small = network.shrink(kept)
    network.verify_shrink(net, kept, small)
    assert sum(p.numel() for p in small.parameters()) == network.parameters({k: len(v) for k, v in kept.items()})
    save(small, network, tmp_path)
    again = netadapt.load(tmp_path, Tiny())
    torch.testing.assert_close(again(TOKENS), small(TOKENS))


def test_a_standardised_weight_in_an_unknown_module_stays_pinned():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.randn(8, 6)), nn.Parameter(torch.randn(3, 8))

        def forward(self, x):
            return F.linear(F.linear(x, self.a), self.b - self.b.mean(1, keepdim=True))

    network = trace(Both(), TOKENS, exact=False)
    assert not network.groups
    assert "computed in forward by a Both" in network.pinned[0].reason


@given(width=st.integers(2, 60), name=st.text("ab.", max_size=5))
def test_classes_are_equally_large_and_every_unit_goes_once(width, name):
    classes = classes_of(name, width)
    counts = np.bincount(classes)
    assert len(set(counts.tolist())) == 1 and counts[0] > 1
    first, last = (one_of_each(classes, last=which) for which in (False, True))
    for kept in (first, last):
        assert sorted(classes[list(kept)].tolist()) == list(range(len(counts))) and list(kept) == sorted(kept)
    assert not set(first) & set(last)


class Upstream(Mixed):
    """What follows a first layer of its own is wrong once that loses channels; a norm behind may hide it."""

    def __init__(self, width, function):
        super().__init__(nn.LayerNorm(width))
        self.start, self.function = nn.Linear(6, 16), function
        self.first, self.last = nn.Linear(16, width), nn.Linear(width, 3)

    def forward(self, x):
        return super().forward(self.function(self.start(x)))


@pytest.mark.parametrize("width", [2, 3, 7, 8])
@pytest.mark.parametrize(
    "function",
    [
        lambda h: h / h.shape[-1],
        lambda h: torch.cat([h[..., :3] * 2, h[..., 3:]], -1),
        lambda h: h.roll(1, -1).relu(),
    ],
    ids=["count", "cut", "roll"],
)
def test_copies_behind_do_not_hide_what_is_wrong_upstream(width, function):
    exact, inexact = (trace(Upstream(width, function), TOKENS, exact=which) for which in (True, False))
    assert inexact.widths.keys() - exact.widths.keys() <= {"first"}
    assert ("first" in inexact.widths) == (width == 8)  # fewer than three classes of copies prove nothing


@pytest.mark.parametrize("width", [8, 12, 24, 28, 34, 36, 60])
def test_an_error_that_one_unit_alone_shows_is_found(width):
    net = Mixed(By(lambda x: F.layer_norm(x, x.shape[-1:]).roll(1, -1)))
    net.first, net.last = nn.Linear(6, width), nn.Linear(width, 3)
    assert not trace(net, TOKENS, exact=False).groups


def test_checking_a_cut_leaves_the_users_network_alone():
    class Counting(Mixed):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x)

    net = Counting(nn.LayerNorm(8))
    seen: list[int] = []
    network = trace(net, TOKENS, exact=False)
    net.last.weight.register_hook(seen.append)
    network.verify_shrink(net, {"first": [0, 2, 5]})
    assert net.calls == 0 and net.training


def test_a_statistic_over_the_kernel_is_exact_and_may_be_cut_twice():
    class Normalised(nn.Conv2d):
        def forward(self, x):
            return F.conv2d(x, self.weight / self.weight.square().mean((2, 3), keepdim=True).sqrt(), self.bias)

    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), Normalised(8, 4, 3), nn.Conv2d(4, 2, 1))
    network = trace(net, torch.randn(1, 3, 9, 9), exact=False)
    assert network.widths == {"0": 8, "2": 4} and not any(group.inexact for group in network.groups)
    assert network.equals_masked({"0": [1, 2, 6], "2": [0, 3]}) < 1e-10


def test_a_standardised_weight_that_two_layers_share_is_masked_in_both():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(6, 2, 1)
            self.one, self.other = Standardised(8, 6, 1), Standardised(8, 6, 1)
            self.other.weight = self.one.weight

        def forward(self, x):
            x = self.stem(x)
            return self.head(self.one(x).relu() + self.other(x.sigmoid()))

    assert trace(Shared(), IMAGE, exact=False).widths == {"stem": 8, "one": 6}


def test_a_scale_that_is_an_activation_goes_with_its_channels():
    class Adaptive(Mixed):
        def __init__(self):
            super().__init__(nn.Identity())
            self.scale = nn.Linear(6, 8)

        def forward(self, x):
            h = self.first(x)
            return self.last(F.layer_norm(h, h.shape[-1:], self.scale(x[0, 0])))

    (group,) = trace(Adaptive(), TOKENS, exact=False).groups
    assert {"first", "scale", "last"} <= set(group.layers)


def test_twins_and_masks_last_as_long_as_they_are_needed():
    net = nn.Sequential(Standardised(3, 8, 1), nn.BatchNorm2d(8), Standardised(8, 4, 1), nn.Conv2d(4, 2, 1)).double()
    network, x = trace(net, IMAGE.double(), exact=False), IMAGE.double()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    classes = np.array([0, 1, 2, 3, 3, 2, 1, 0])
    with twinned(network, net, {"0": classes}):
        assert torch.equal(net[0].weight[3], net[0].weight[4]) and torch.equal(net[2].weight[:, 0], net[2].weight[:, 7])
        small = network.shrink({"0": [0, 1, 2, 3]}, net)
        with masked(network, net, {"0": [0, 1, 2, 3]}):
            (expected,) = outputs_of(net, x)
    torch.testing.assert_close(outputs_of(small, x)[0], expected)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(part._forward_pre_hooks for part in net.modules())


def test_a_norm_over_channels_that_follows_nothing_is_refused():
    network = trace(Mixed(nn.LayerNorm(8, elementwise_affine=False)), TOKENS, exact=False)
    assert not network.groups
    with pytest.raises(ModelError, match="no channel group"):
        network.shrink({"first": [0, 1]})
