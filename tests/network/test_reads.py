from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from netadapt.network import trace
from netadapt.network.bench import prepare
from netadapt.network.reads import read_by


class Headed(nn.Module):
    """Looks at one of two attributes that have the same size."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)
        self.width = self.unused = 8

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).reshape(x.shape[0], self.width, 4, 4))


def test_only_what_forward_looks_at_is_an_option():
    network = trace(Headed(), torch.randn(1, 3, 4, 4), prove=False)
    bench, options = prepare(network), {"": {("width", 0): [], ("unused", 0): []}}
    assert read_by(bench, options) == {"": {("width", 0): []}}
    assert type(bench.model) is Headed


@pytest.mark.parametrize("broken", [RuntimeError, AttributeError])
def test_where_the_model_fails_everything_is_an_option(broken):
    network = trace(Headed(), torch.randn(1, 3, 4, 4), prove=False)
    bench, options = prepare(network), {"": {("unused", 0): []}}

    def fails(*_):
        raise broken

    bench.model.register_forward_pre_hook(fails)
    assert read_by(bench, options) == options and type(bench.model) is Headed
