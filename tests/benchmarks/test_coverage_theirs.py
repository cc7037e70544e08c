from __future__ import annotations

import coverage_theirs
import pytest
import torch
from coverage_theirs import theirs
from torch import nn


def test_a_residual_network_is_pruned_exactly():
    told = theirs("timm:test_resnet", 0)
    assert told["outcome"] == "equal"
    assert told["difference"] < 1e-12
    assert 0.4 < told["parameters_left"] < 0.9


def test_an_error_is_left_to_the_caller():
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        theirs("timm:test_vit", 0)


class Shuffled(nn.Module):
    """A channel shuffle between two convolutions."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1), nn.Linear(16, 5)

    def forward(self, x):
        x = self.first(x)
        x = x.view(len(x), 2, -1, x.shape[2], x.shape[3]).transpose(1, 2).flatten(1, 2)
        return self.head(self.second(x).relu().mean((2, 3)))


class Normed(nn.Sequential):
    """Channels of a layer norm are pruned: values change by nature."""

    def __init__(self):
        super().__init__(nn.Linear(6, 16), nn.LayerNorm(16), nn.Linear(16, 5))


@pytest.mark.parametrize(
    ("model", "shape", "outcome"), [(Shuffled, (1, 3, 4, 4), "wrong values"), (Normed, (1, 6), "runs")]
)
def test_outcomes_are_told_apart(model, shape, outcome, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(coverage_theirs, "build", lambda name, seed: (model().eval(), torch.randn(shape)))
    assert theirs("", 0)["outcome"] == outcome
