from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from netadapt.errors import ModelError
from netadapt.network import trace


def test_widths_vectors_and_groups(network_of):
    network = network_of("mobilenet_v1")
    assert list(network.widths) == [g.name for g in network.groups] == ["body.0.0", "body.2.0", "body.4.0", "body.6.0"]
    assert network.mapping(network.vector({})) == network.widths
    vector = network.vector({"body.2.0": 3})
    assert vector.dtype == np.int64 and vector.tolist() == [8, 3, 24, 24]
    assert network.group("body.2.0").width == 16
    with pytest.raises(ModelError, match=r"did you mean \"body.2.0\""):
        network.group("body.2.O")
    for width in (0, 17):
        with pytest.raises(ModelError, match=r"outside 1\.\.16"):
            network.vector({"body.2.0": width})
    assert "4 groups" in repr(network)


def test_structure_hash_ignores_weights_and_sees_structure():
    def build(width: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 4, 1))

    image = torch.zeros(1, 3, 8, 8)
    first = trace(build(6), image).structure_hash()
    assert first == trace(build(6), image).structure_hash()
    assert first != trace(build(7), image).structure_hash()
    assert first != trace(build(6), torch.zeros(1, 3, 9, 9)).structure_hash()
    code = (
        "import torch; from torch import nn; from netadapt.network import trace\n"
        "m = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1))\n"
        "print(trace(m, torch.zeros(1, 3, 8, 8)).structure_hash())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == first


def test_equals_masked_uses_the_weights_of_a_tuned_module(network_of):
    network = network_of("mobilenet_v2")
    small = network.shrink({g.name: range(0, g.width, 2) for g in network.groups})
    with torch.no_grad():
        for p in small.parameters():
            p.mul_(1.5)
    kept = {name: indices[: max(1, len(indices) // 2)] for name, indices in network.kept_of(small).items()}
    assert network.equals_masked(kept, small) < 1e-9
    assert network.equals_masked(kept) < 1e-9


def test_proof_says_what_was_checked(family):
    proof = family.network.proof
    assert proof.modes == ("eval", "train") and not proof.failures
    assert proof.batch in (2, 3)


def test_the_pinned_share_counts_layers_whose_cost_no_group_changes():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fixed, self.free, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 8, 1), nn.Conv2d(8, 5, 1)

        def forward(self, x):
            return self.last(self.free(self.fixed(x).softmax(1)).relu())

    network = trace(Net(), torch.zeros(1, 3, 4, 4))
    assert list(network.widths) == ["free"]
    assert network.pinned_share == pytest.approx(3 * 6 / (3 * 6 + 6 * 8 + 8 * 5))
    assert trace(nn.Linear(4, 2), torch.zeros(1, 4)).pinned_share == 1.0
    assert trace(nn.ReLU(), torch.zeros(1, 4)).pinned_share == 0.0
