from __future__ import annotations

import numpy as np
import torch
from torch import nn

from netadapt.network import trace


def test_channels_with_different_fates_are_different_groups_of_the_same_layer():
    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.both, self.left, self.right = nn.Conv2d(3, 10, 1), nn.Conv2d(5, 4, 1), nn.Conv2d(5, 4, 1)

        def forward(self, x):
            a, b = self.both(x).chunk(2, 1)
            return torch.cat([self.left(a), self.right(b).relu()], 1)

    network = trace(Fork(), torch.randn(1, 3, 4, 4))
    assert network.widths == {"both": 5}  # the chunks stay equally long, so their units go together


def test_option_a_splits_a_stage(network_of):
    network = network_of("resnet_a")
    groups = {g.name: g.width for g in network.groups}
    assert groups["body.0.0"] == 8  # runs through all stages, in the middle of the later ones
    assert groups["body.2.conv2.0"] == 8 and groups["body.4.conv2.0"] == 16
    outer = next(a for a in network.group("body.2.conv2.0").axes if a.tensor == "body.2.conv2.0.weight")
    assert outer.indices[:, 0].tolist() == [0, 1, 2, 3, 12, 13, 14, 15]


def test_axes_cover_each_entry_once(family):
    network = family.network
    seen: dict[tuple[str, int], list[int]] = {}
    for group in network.groups:
        assert group.width == len(group.axes[0].indices) and group.minimum == group.multiple == 1
        assert any(a.role == "output" for a in group.axes)
        assert len({a.tensor.rpartition(".")[0] for a in group.axes}) == len(group.layers)
        for use in group.axes:
            assert (np.diff(use.indices, axis=1) > 0).all()
            seen.setdefault((use.tensor, use.axis), []).extend(use.indices.reshape(-1).tolist())
    for (tensor, axis), entries in seen.items():
        assert len(entries) == len(set(entries)) and max(entries) < network.shapes[tensor][axis]


def test_concatenated_features_keep_their_own_groups(network_of):
    network = network_of("densenet")
    assert {"body.0", "body.1.conv2", "body.2.conv2"} <= set(network.widths)
    consumer = [a for g in network.groups for a in g.axes if a.tensor == "body.4.0.weight" and a.axis == 1]
    assert [len(a.indices) for a in consumer] == [8, 4, 4, 4]
    assert all(a.role == "input" for a in consumer)


def test_one_channel_is_no_group():
    network = trace(nn.Sequential(nn.Conv2d(3, 1, 1), nn.Conv2d(1, 4, 1)), torch.randn(1, 3, 4, 4))
    assert network.groups == ()
    assert network.macs() == 16 * (3 + 4) and network.parameters() == 4 + 8
    assert network.macs_of(np.zeros((3, 0), dtype=np.int64)).tolist() == [112] * 3
