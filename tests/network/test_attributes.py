from __future__ import annotations

import pytest
import torch
from torch import nn

from netadapt.network import register_attribute_fixer, trace
from netadapt.network.attributes import Change, allowed_attributes, changed_attributes, needs_channels

IMAGE = torch.randn(1, 3, 8, 8)


def test_torch_modules_say_their_new_sizes():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 1),
        nn.InstanceNorm2d(8, affine=True),
        nn.PReLU(8),
        nn.GroupNorm(8, 8),
        nn.InstanceNorm2d(8),
        nn.ConvTranspose2d(8, 6, 2),
        nn.Flatten(),
        nn.Linear(6 * 81, 4),
    )
    network = trace(net, IMAGE)
    small = network.shrink({"0": [0, 3], "5": [1]})
    assert (small[1].num_features, small[2].num_parameters) == (2, 2)
    assert (small[3].num_channels, small[3].num_groups) == (2, 2)
    assert small[4].num_features == 2
    assert (small[5].in_channels, small[5].out_channels) == (2, 1)
    assert small[7].in_features == 81
    assert repr(small[0]).startswith("Conv2d(3, 2")


def test_the_nearest_class_decides():
    class Mine(nn.Linear):
        pass

    class Other(nn.Module):
        size = 3

    assert allowed_attributes(Mine(2, 2)) == {"in_features", "out_features"}
    assert not allowed_attributes(Other()) and not needs_channels(Other())
    register_attribute_fixer(Other, lambda change: {"size": 2, "secret": 1}, attributes=("size",), channels=True)
    assert needs_channels(Other())
    with pytest.raises(ValueError, match="undeclared attributes"):
        changed_attributes(Change(Other(), Other()))
