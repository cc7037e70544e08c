"""Cuts of channels: followed where they follow a removal, pinned by the proof where they do not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from exact import check_exact
from torch import Tensor, nn

IMAGE = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(2))


class Between(nn.Module):
    """Two convolutions with a function between them; what it returns beside its first result is an output too."""

    def __init__(self, function, into: int) -> None:
        super().__init__()
        self.function, self.width = function, 12
        self.first, self.last = nn.Conv2d(3, 12, 1), nn.Conv2d(into, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        result = self.function(self.first(x).relu())
        first, *rest = result if isinstance(result, tuple) else (result,)
        return self.last(first), *rest


def halves(x):
    n = x.shape[1] // 2
    return x[:, :n] * x[:, n:].sigmoid()


FOLLOWED = {
    "halves that follow": (halves, 6, 6),
    "every second": (lambda x: x[:, ::2] + x[:, 1::2], 6, 6),
    "every third, one left out": (lambda x: torch.cat([x[:, ::3], x[:, 2::3]], 1), 8, 4),
    "thirds by narrow": (
        lambda x: x.narrow(1, 0, x.shape[1] // 3) + x.narrow(1, x.shape[1] // 3, x.shape[1] // 3),
        4,
        4,
    ),
    "the rest behind an output": (lambda x: (x[:, 5:], x[:, :5]), 7, 7),
    "what is left out in front stays": (lambda x: x[:, 5:], 7, 7),
    "one for all": (lambda x: x + x[:, :1], 12, 11),
    "one to the output": (lambda x: (x[:, 1:], x[:, 0]), 11, 11),
    "split off an output": (lambda x: tuple(reversed(x.split([2, x.shape[1] - 2], 1))), 10, 10),
}


@pytest.mark.parametrize("case", FOLLOWED)
def test_cuts_that_follow_a_removal(case):
    function, into, width = FOLLOWED[case]
    assert check_exact(Between(function, into), IMAGE).widths == {"first": width}


CONSTANT = {
    "halves": lambda x: x[:, :6] * x[:, 6:],
    "a tail": lambda x: torch.cat([x[:, -6:]], 1),
    "a list": lambda x: x[:, [0, 3, 5, 6, 9, 11]],
    "pieces": lambda x: (lambda a, b: a + b[:, 2:])(*x.split([5, 7], 1)),
    "select": lambda x: torch.stack([x[:, i] for i in (0, 2, 4, 6, 8, 10)], 1),
}


@pytest.mark.parametrize("case", CONSTANT)
def test_cuts_at_constant_positions_are_pinned(case):
    function = CONSTANT[case]
    with torch.no_grad():
        into = function(torch.zeros(1, 12, 6, 6)).shape[1]
    network = check_exact(Between(function, into), IMAGE)
    assert "first" not in network.widths, network.groups
    assert "first" in {p.layer for p in network.pinned}


class Tokens(nn.Module):
    """The start of a vision transformer: a table of positions that is resized, and tokens of its own in front."""

    def __init__(self, positions: str, extra: int, norm: bool) -> None:
        super().__init__()
        self.embed, self.positions = nn.Conv2d(3, 12, 2, 2), positions
        self.table = nn.Parameter(torch.randn(1, 12, 5, 5))
        self.extra = nn.Parameter(torch.randn(1, extra, 12))
        self.norm = nn.LayerNorm(12) if norm else nn.Identity()
        self.into, self.out = nn.Linear(12, 10), nn.Linear(10, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        if self.positions == "antialias":
            x = x + F.interpolate(self.table, x.shape[2:], mode="bicubic", antialias=True)
        elif self.positions == "pooled":
            x = x + F.adaptive_avg_pool2d(self.table, x.shape[2:])
        t = x.flatten(2).transpose(1, 2)
        t = torch.cat([self.extra.expand(len(x), -1, -1), t], 1)
        return (t + self.out(self.into(self.norm(t)).relu())).mean(1).sum(1)


@pytest.mark.parametrize("extra", [1, 4])
@pytest.mark.parametrize("positions", ["antialias", "pooled", ""])
def test_positions_that_are_resized_and_extra_tokens(positions, extra):
    network = check_exact(Tokens(positions, extra, norm=True), IMAGE)
    assert network.widths == {"into": 10}  # the norm holds the rest


def test_a_table_of_positions_loses_channels_and_keeps_places():
    class Resized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 4, 1)
            self.table = nn.Parameter(torch.randn(1, 12, 5, 5))

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x) + F.interpolate(self.table, x.shape[2:], mode="bilinear"))

    network = check_exact(Resized(), IMAGE)
    assert network.widths == {"first": 12}
    assert network.shrink({"first": [0, 7]}).table.shape == (1, 2, 5, 5)


def test_tensors_nobody_knows_stay_so_when_they_are_joined():
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(torch.cat([x, x.flip(2)], 2)).relu())

    assert check_exact(Joined(), IMAGE).widths == {"first": 8}
