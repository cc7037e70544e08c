"""Elements copied to new places between two convolutions: what is a unit, and is its removal exact?"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from exact import check_exact
from torch import Tensor, nn

IMAGE = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(2))


class Between(nn.Module):
    def __init__(self, function, into: int) -> None:
        super().__init__()
        self.function = function
        self.first, self.last = nn.Conv2d(3, 12, 1), nn.Conv2d(into, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x).relu()))


@pytest.mark.parametrize(
    ("function", "into", "width"),
    [
        (lambda x: x.flip(1), 12, 12),
        (lambda x: x.flip(2).roll(2, 3), 12, 12),
        (lambda x: x.repeat(1, 2, 1, 3), 24, 12),
        (lambda x: x.tile(2, 1, 1), 24, 12),
        (lambda x: F.pixel_shuffle(x, 2), 3, 3),
        (lambda x: F.pixel_unshuffle(x, 3), 108, 12),
        (lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2), 12, 3),
        (lambda x: F.channel_shuffle(x, 3), 12, 4),
        (nn.ChannelShuffle(2), 12, 6),
    ],
    ids=["flip", "space", "repeat", "tile", "pixel", "unshuffle", "and back", "channel", "module"],
)
def test_copies_are_cut_exactly(function, into, width):
    assert check_exact(Between(function, into), IMAGE).widths == {"first": width}


@pytest.mark.parametrize(
    ("function", "says"),
    [(lambda x: x.roll(5, 1), "values differ"), (lambda x: x.roll(7), "all dimensions as one")],
    ids=["along channels", "flat"],
)
def test_rolled_channels_are_pinned(function, says):
    network = check_exact(Between(function, 12), IMAGE)
    assert not network.groups and says in network.pinned[0].reason
