"""Normalisations between two convolutions: per channel they are free, in groups whole groups go, over all they pin."""

from __future__ import annotations

import pytest
import torch
from exact import check_exact
from torch import nn

IMAGE = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(2))


class Halves(nn.Module):
    """Ties the first half of the channels to the second, and with it norm groups that lie in both."""

    def forward(self, x):
        a, b = x.chunk(2, 1)
        return torch.cat([a * b, b], 1)


@pytest.mark.parametrize(
    ("norm", "width"),
    [
        (nn.BatchNorm2d(24), 24),
        (nn.BatchNorm2d(24, affine=False), 24),
        (nn.BatchNorm2d(24, track_running_stats=False), 24),
        (nn.InstanceNorm2d(24), 24),
        (nn.InstanceNorm2d(24, affine=True, track_running_stats=True), 24),
        (nn.GroupNorm(24, 24), 24),
        (nn.GroupNorm(8, 24), 8),
        (nn.GroupNorm(2, 24, affine=False), 2),
        (nn.Sequential(nn.GroupNorm(6, 24), nn.GroupNorm(4, 24)), 2),
        (nn.Sequential(nn.GroupNorm(6, 24), Halves()), 3),
        (nn.Sequential(nn.GroupNorm(3, 24), Halves()), None),
    ],
    ids=str,
)
def test_units_are_what_is_normalised_together(norm, width):
    network = check_exact(nn.Sequential(nn.Conv2d(3, 24, 1), norm, nn.ReLU(), nn.Conv2d(24, 2, 1)), IMAGE)
    assert network.widths.get("0") == width, network.pinned


def test_group_norm_keeps_the_size_of_its_groups():
    network = check_exact(nn.Sequential(nn.Conv2d(3, 24, 1), nn.GroupNorm(8, 24), nn.Conv2d(24, 2, 1)), IMAGE, 1)
    norm = network.shrink({"0": [0, 3, 4]})[1]
    assert (norm.num_channels, norm.num_groups, norm.weight.shape[0]) == (9, 3, 9)


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 24), nn.LayerNorm([24, 6, 6])], ids=str)
def test_what_mixes_all_channels_pins_them(norm):
    network = check_exact(nn.Sequential(nn.Conv2d(3, 24, 1), norm, nn.Conv2d(24, 8, 1), nn.Conv2d(8, 2, 1)), IMAGE)
    assert network.widths == {"2": 8}
    assert "mixes the statistics of all channels" in network.pinned[0].reason
