from __future__ import annotations

import pytest
import torch
from coverage_ours import cut, inexact, ours
from torch import nn

from netadapt.network import trace


@pytest.mark.parametrize("name", ["timm:test_resnet", "timm:test_vit"])
def test_an_architecture_is_traced_and_cut(name):
    told = ours(name, 0)
    assert told["cut"]["outcome"] == "equal"
    assert told["cut"]["difference"] < 1e-12 < told["cut"]["effect"]
    assert told["groups"] > 0
    assert told["memory_mb"] > told["weights_mb"] > 0
    assert 0 <= sum(reason["share"] for reason in told["reasons"]) <= told["pinned_share"] + 1e-3
    assert min(told["trace_s"], told["export_s"]) > 0


class Split(nn.Module):
    """A size written into forward: only with the proof is it found."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8 * 4, 2)

    def forward(self, x):
        return self.head(self.conv(x).view(-1, 32))


def test_what_is_wrong_is_called_wrong():
    model, example = Split().eval(), torch.randn(1, 3, 2, 2)
    with pytest.raises(RuntimeError, match="shape"):
        cut(trace(model, example, prove=False), model, example, 0)
    assert cut(trace(model, example), model, example, 0) == {"outcome": "nothing to cut"}


def test_other_values_are_wrong_values(monkeypatch):
    model, example = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1)).eval(), torch.randn(1, 3, 4, 4)
    network = trace(model, example)
    assert cut(network, model, example, 0)["outcome"] == "equal"
    with torch.no_grad():
        other = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1)).eval()
    assert cut(network, other, example, 0)["outcome"] == "wrong values"


def test_where_norms_keep_half_the_macs_inexact_groups_are_looked_at():
    told = ours("timm:test_efficientnet_ln", 0)
    assert told["pinned_share"] > 0.5
    more = told["inexact"]
    assert more["outcome"] == "runs" and more["pinned_share"] < 0.1 and 0 < more["inexact_groups"] <= more["groups"]
    assert ours("timm:test_resnet", 0)["inexact"] is None


def test_inexact_groups_that_do_not_exist_are_not_cut():
    assert inexact(nn.Conv2d(3, 4, 1).eval(), torch.randn(1, 3, 4, 4), 0)["outcome"] == "nothing to cut"
