"""What meets element by element: raw parameters and buffers in any form of broadcasting, in place or not."""

from __future__ import annotations

import pytest
import torch
from exact import check_exact
from torch import Tensor, nn

IMAGE = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(2))


class Between(nn.Module):
    """Two convolutions with something between them that uses a parameter and a buffer."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.first, self.last = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 4, 1)
        self.gamma = nn.Parameter(torch.linspace(0.5, 1.5, 12))
        self.register_buffer("shift", torch.linspace(-1, 1, 12)[:, None, None].clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self, self.first(x)))


def in_place(net, x):
    x *= net.gamma.view(-1, 1, 1)
    x += net.shift
    return x.relu_().clamp_(max=2)


def without_gradient(net, x):
    with torch.no_grad():
        scale = net.gamma.exp()[:, None, None]
    return x * scale + net.shift


@pytest.mark.parametrize(
    "function",
    [
        lambda net, x: x * net.gamma[None, :, None, None] + net.shift,
        lambda net, x: torch.lerp(x, net.shift.expand_as(x), net.gamma.reshape(1, -1, 1, 1).sigmoid()),
        lambda net, x: torch.where(x > net.shift, x, net.gamma[:, None, None].broadcast_to(x.shape)),
        lambda net, x: x.masked_fill(x < 0, 0.5) / (1 + net.gamma.square())[:, None, None] - 2 * net.shift,
        in_place,
        without_gradient,
    ],
    ids=["indexed", "expanded", "where", "masked", "in place", "no grad"],
)
def test_parameters_and_buffers_go_with_what_they_meet(function):
    network = check_exact(Between(function), IMAGE)
    (group,) = network.groups
    assert group.width == 12
    assert {use.tensor for use in group.axes} >= {"gamma", "shift"}
