"""One network of a family."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netadapt.errors import ModelError
from netadapt.family.variant import Variant, measurement_of
from netadapt.network import trace
from netadapt.network.saving import save


def test_a_variant_without_files_says_so(tmp_path):
    variant = Variant("001", 1, {}, {}, None, None, None, False, tmp_path / "001")
    with pytest.raises(ModelError, match="Variant 001 has no files in"):
        variant.load(nn.Linear(1, 1))


def test_the_line_for_people():
    variant = Variant("007", 7, {}, {"latency": 3.214, "macs": 41.5e6}, None, 0.712, 0.7, False, None)
    assert str(variant) == "007: 3.21 ms, 41.5 MMAC, selection 71.2 %, test 70.0 %, not tuned long-term"


def test_measurements_of_later_versions_are_read():
    data = {"platform": "p", "median_ms": 1.0, "iqr_ms": 0.1, "p90_ms": 1.1, "count": 9, "verdict": "stable",
            "half_width_ms": 0.01, "sessions_ms": [1.0, 1.1], "from_the_future": 1}  # fmt: skip
    assert measurement_of(data).sessions_ms == (1.0, 1.1)
    assert measurement_of(None) is None


def test_a_variant_is_loaded_into_the_users_class(tmp_path):
    def build():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten()).eval()

    example = torch.ones(1, 3, 6, 6)
    network = trace(build(), example)
    small = network.shrink({network.groups[0].name: [0, 2, 5]})
    save(small, network, tmp_path / "001", {})
    loaded = Variant("001", 1, {}, {}, None, None, None, False, tmp_path / "001").load(build())
    assert loaded[0].out_channels == 3
    assert torch.equal(loaded(example), small(example))
