"""Each family of operations alone: which of two tied convolutions' channels stay free, and are the groups exact?"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netadapt.network import trace

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Between(nn.Module):
    def __init__(self, function, channels: int, dims: int = 2, into: int | None = None) -> None:
        super().__init__()
        self.function = function
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.last = nn.Linear(into, 4) if dims == 0 else nn.Conv2d(into or channels, 4, 1)

    def forward(self, x):
        return self.last(self.function(self.first(x)))


EXACT = {
    # elementwise
    "activations": (lambda x: F.gelu(x) * torch.sigmoid(x) + F.silu(x).clamp(min=-1), 8, {}),
    "scalars": (lambda x: 2 * x**2 - 1 / (x.abs() + 1), 8, {}),
    "in place": (lambda x: x.mul_(2).add_(1).relu_(), 8, {}),
    "where": (lambda x: torch.where(x > 0, x, torch.zeros_like(x)), 8, {}),
    "channel gate": (lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(), 8, {}),
    "no grad": (lambda x: x * _detached(x), 8, {}),
    # movement
    "flatten": (lambda x: x.flatten(1), 8, {"dims": 0, "into": 512}),
    "view with -1": (lambda x: x.view(x.shape[0], -1), 8, {"dims": 0, "into": 512}),
    "permute and back": (lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), 8, {}),
    "tokens": (lambda x: x.flatten(2).transpose(1, 2).mean(1), 8, {"dims": 0, "into": 8}),
    "unsqueeze": (lambda x: x[:, None].squeeze(1).unsqueeze(-1).squeeze(-1), 8, {}),
    "spatial slices": (lambda x: x[:, :, ::2, 1:-1] + x[..., 1::2, 1:-1], 8, {}),
    "concat twice": (lambda x: torch.cat([x, F.relu(x)], 1), 8, {"into": 16}),
    "stack and unbind": (lambda x: sum(torch.stack([x, -x, x**2], 0).unbind(0)), 8, {}),
    "chunk": (lambda x: (lambda a, b: a * b.sigmoid())(*x.chunk(2, 1)), 8, {"into": 4}),
    "channel shuffle": (lambda x: x.unflatten(1, (2, x.shape[1] // 2)).transpose(1, 2).flatten(1, 2), 8, {}),
    "torch's shuffle": (lambda x: F.channel_shuffle(x, 2), 8, {}),
    "pixel shuffle": (lambda x: F.adaptive_avg_pool2d(F.pixel_shuffle(x, 2), 3), 16, {"into": 4}),
    "pixel unshuffle": (lambda x: F.pixel_unshuffle(x, 2), 8, {"into": 32}),
    "written places": (lambda x: _written(x.clone()), 8, {}),
    "flip": (lambda x: x.flip(3), 8, {}),
    "spatial padding": (lambda x: F.pad(F.pad(x, (1, 1, 1, 1)), (2, 2, 0, 0), mode="reflect"), 8, {}),
    "repeat": (lambda x: x.repeat(1, 2, 1, 1), 8, {"into": 16}),
    # reduction, pooling, resizing
    "pools": (lambda x: F.max_pool2d(x, 2) + F.avg_pool2d(x, 2) + F.adaptive_max_pool2d(x, 4), 8, {}),
    "resize": (lambda x: F.interpolate(F.interpolate(x, scale_factor=2), size=(5, 7), mode="bilinear"), 8, {}),
    "global": (lambda x: x.amax((2, 3)) + x.sum((2, 3)) + x.var((2, 3)), 8, {"dims": 0, "into": 8}),
    "softmax over space": (lambda x: x.flatten(2).softmax(-1).view_as(x), 8, {}),
    "maximum": (lambda x: torch.maximum(x, -x) + torch.max(x, x * 2), 8, {}),
    # normalisation
    "instance norm": (lambda x: F.instance_norm(x), 8, {}),
}  # fmt: skip


def _written(x):
    x[:, :, 0] = x[:, :, 1] * 2
    return x


def _detached(x):
    with torch.no_grad():
        return x.sigmoid() * 2


@pytest.mark.parametrize("case", EXACT)
def test_channels_stay_free_and_exact(case):
    function, channels, options = EXACT[case]
    network = trace(Between(function, channels, **options), IMAGE)
    assert [p.layer for p in network.pinned] == ["last"], network.pinned
    (group,) = network.groups
    assert network.equals_masked({"first": range(0, group.width, 2)}) < 1e-10
    assert network.proof.modes[0] == "eval"


def test_a_width_that_must_be_split_evenly_counts_pairs():
    network = trace(Between(EXACT["chunk"][0], 8, into=4), IMAGE)
    group = network.group("first")
    assert group.width == 4
    assert {a.tensor: a.indices[0].tolist() for a in group.axes if a.axis == 0}["first.weight"] == [0, 4]


def test_contractions_other_than_modules():
    class Products(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.randn(12, 10)), nn.Parameter(torch.randn(6, 10))
            self.c, self.bias = nn.Parameter(torch.randn(6, 3)), nn.Parameter(torch.randn(3))

        def forward(self, x):
            return torch.addmm(self.bias, torch.relu(x @ self.a @ self.b.t()), self.c)

    network = trace(Products(), torch.randn(4, 12))
    assert network.widths == {"a": 10, "b": 6}
    assert network.equals_masked({"a": [1, 2, 9], "b": [0, 5]}) < 1e-10
    assert network.macs() == 4 * (12 * 10 + 10 * 6 + 6 * 3)


def test_channels_written_into_a_tensor_of_zeros_are_pinned():
    def assembled(x):
        out = x.new_zeros(x.shape[0], 2 * x.shape[1], *x.shape[2:])
        out[:, : x.shape[1]] = x
        return out

    network = trace(Between(assembled, 8, into=16), IMAGE)
    assert network.groups == () and "made in forward" in network.pinned[0].reason


def test_what_meets_a_tensor_written_to_in_parts_is_pinned_and_nothing_behind_it():
    class Meeting(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 8, 1)
            self.behind, self.head = nn.Conv2d(8, 6, 1), nn.Conv2d(6, 2, 1)

        def forward(self, x):
            left = self.left(x)
            out = x.new_zeros(x.shape[0], 8, *x.shape[2:])
            out[:, :4] = left
            return self.head(self.behind(out * self.right(x)))

    network = trace(Meeting(), IMAGE)
    assert network.widths == {"behind": 6}
    assert network.proof.failures == {}
    assert {p.layer for p in network.pinned if "made in forward" in p.reason} == {"left", "right"}


def test_a_standardised_weight_pins_its_inputs_and_may_lose_outputs():
    class Standardised(nn.Conv2d):
        def forward(self, x):
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return F.conv2d(x, weight, self.bias)

    network = trace(nn.Sequential(nn.Conv2d(3, 8, 1), Standardised(8, 6, 1), nn.Conv2d(6, 4, 1)), IMAGE)
    assert network.widths == {"1": 6} and network.equals_masked({"1": [0, 3, 4]}) < 1e-10
    assert {p.layer for p in network.pinned} == {"0", "2"}
    assert "mean runs over an axis of 1.weight" in network.pinned[0].reason and network.pinned[0].statistic
    assert network.macs() == 2 * 64 * (3 * 8 + 8 * 6 + 6 * 4)


def test_an_unusual_call_of_a_known_operation_is_pinned():
    network = trace(Between(lambda x: F.pad(x, (0, 0, 0, 0, 0, 0, 1, 1)), 8), IMAGE)
    assert all(network.equals_masked({g.name: [0]}) < 1e-10 for g in network.groups)


@pytest.mark.parametrize("batch", [1, 2])
def test_what_meets_the_input_is_no_weight(batch):
    class Placed(nn.Module):
        def __init__(self):
            super().__init__()
            self.positions, self.weight = nn.Parameter(torch.randn(1, 5, 6)), nn.Parameter(torch.randn(6, 8))
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            return self.head((x + self.positions) @ self.weight)

    assert trace(Placed(), torch.randn(batch, 5, 6)).widths == {"weight": 8}


def test_a_constant_may_be_returned():
    class Grid(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head, self.grid = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1), torch.arange(6.0)

        def forward(self, x):
            return self.head(self.conv(x)), self.grid, self.grid * 2

    assert trace(Grid(), IMAGE).widths == {"conv": 8}
