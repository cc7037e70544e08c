"""A small traced network and times by layer that are exactly proportional to its work, for judging by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netadapt.network import Network, trace


class Reduced(nn.Module):
    """Two convolutions, whose second one is normed over its channels by the user's own code, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.second = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.third = nn.Conv2d(64, 64, 1, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.first(x).relu()).relu()
        x = self.third(x)
        x = x.softmax(1)
        return self.classifier(self.pool(x).flatten(1))


@pytest.fixture(scope="session")
def network() -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return trace(Reduced().eval(), torch.randn(1, 3, 32, 32), prove=False)
