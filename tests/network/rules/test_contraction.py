"""Convolutions of every kind, alone between two dense ones: what is a unit, and is its removal exact?"""

from __future__ import annotations

import pytest
import torch
from exact import check_exact
from torch import nn

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def between(dims: int, inner: nn.Module, inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(CONV[dims](3, inputs, 1), inner, nn.ReLU(), CONV[dims](outputs, 2, 1))


def signal(dims: int) -> torch.Tensor:
    return torch.randn(2, 3, *[5] * dims, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("kind", [CONV, TRANSPOSED], ids=["plain", "transposed"])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    ("inputs", "outputs", "groups", "widths"),
    [
        (8, 6, 1, {"0": 8, "1": 6}),
        (8, 8, 8, {"0": 8}),
        (6, 18, 6, {"0": 6}),
        (12, 18, 3, {"0": 4, "1": 6}),
        (12, 4, 2, {"0": 6, "1": 2}),
    ],
    ids=["dense", "depthwise", "multiplier", "grouped", "fewer outputs"],
)
def test_convolutions_are_cut_exactly(kind, dims, inputs, outputs, groups, widths):
    inner = kind[dims](inputs, outputs, 3, stride=2, padding=1, groups=groups)
    network = check_exact(between(dims, inner, inputs, outputs), signal(dims))
    assert network.widths == widths
    assert [p.layer for p in network.pinned] == ["3"]


@pytest.mark.parametrize("cls", [nn.Conv2d, nn.ConvTranspose2d])
def test_attributes_follow(cls):
    grouped = check_exact(between(2, cls(12, 18, 3, groups=3), 12, 18), signal(2), 1).shrink(
        {"0": [0, 2], "1": [1, 2, 5]}
    )
    assert (grouped[1].groups, grouped[1].in_channels, grouped[1].out_channels) == (3, 6, 9)
    depthwise = check_exact(between(2, cls(6, 12, 3, groups=6), 6, 12), signal(2), 1).shrink({"0": [0, 1, 5]})
    assert (depthwise[1].groups, depthwise[1].in_channels, depthwise[1].out_channels) == (3, 3, 6)


def test_frozen_layers_are_cut_and_stay_frozen():
    net = between(2, nn.Conv2d(8, 6, 3), 8, 6)
    net[0].requires_grad_(False)
    network = check_exact(net, signal(2))
    small = network.shrink({"0": [1, 2], "1": [0, 5]})
    assert [p.requires_grad for p in small.parameters()] == [False, False, True, True, True, True]


def test_parametrised_weights_are_pinned_with_a_reason():
    for wrap in (nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm):
        network = check_exact(
            nn.Sequential(between(2, wrap(nn.Conv2d(8, 6, 3)), 8, 6), nn.ReLU(), nn.Conv2d(2, 2, 1)), signal(2)
        )
        assert network.widths == {"0.3": 2}
        reason = {p.layer: p.reason for p in network.pinned}["0.0"]
        assert "computed in forward" in reason or "does not follow on parameters" in reason  # as torch exports it
