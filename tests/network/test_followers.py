"""Sizes in attributes follow a removal where the proof by values says that it works, and nowhere else."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from torch import nn

from netadapt.errors import ModelError
from netadapt.network import load, save, trace
from netadapt.network.attributes import may_follow

IMAGE = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1))


class Sized(nn.Module):
    """Two convolutions with a view between them that takes its sizes from attributes."""

    def __init__(self, **sizes: int) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)
        for name, size in sizes.items():
            setattr(self, name, size)

    def forward(self, x):
        return self.last(self.norm(self.first(x)).view(-1, self.width, 4, 4))


class Halves(Sized):
    """The square's area equals the width by accident; half of the width is an attribute of its own."""

    def forward(self, x):
        a, b = self.first(x).split(self.half, 1)
        return self.last(torch.cat([a, b.relu()], 1).view(-1, self.width, self.area // 2, 4))


def test_an_attribute_that_a_view_takes_follows():
    network = trace(Sized(width=8, other=5), IMAGE)
    assert network.widths == {"first": 8} and set(network.followers[""]) == {("width", 0)}
    small = network.shrink({"first": [1, 2, 7]})
    assert (small.width, small.other, network.model.width) == (3, 5, 8)
    assert network.equals_masked({"first": [1, 2, 7]}) < 1e-10


def test_what_only_happens_to_be_equal_does_not_follow():
    network = trace(Halves(width=8, half=4, area=8), IMAGE)
    assert network.widths == {"first": 4} and set(network.followers[""]) == {("width", 0), ("half", 0)}
    small = network.shrink({"first": [0, 3]})
    assert (small.width, small.half, small.area) == (4, 2, 8)
    assert network.equals_masked({"first": [0, 3]}) < 1e-10


class Parts(Sized):
    """Three unequal parts of the channels, each with a convolution of its own; their sizes stand in an attribute."""

    def __init__(self, sizes) -> None:
        super().__init__(sizes=sizes)
        self.convs = nn.ModuleList(nn.Conv2d(size, 4, 1) for size in sizes)

    def forward(self, x):
        parts = torch.split(self.norm(self.first(x)), self.sizes, 1)
        return torch.cat([conv(part.relu()) for conv, part in zip(self.convs, parts, strict=True)], 1)


@pytest.mark.parametrize("kind", [tuple, list])
def test_sizes_in_a_sequence_follow_one_by_one(kind, tmp_path):
    network = trace(Parts(kind([2, 5, 1])), IMAGE)
    assert network.widths == {"first": 2, "first:1": 5}
    small = network.shrink({"first": [1], "first:1": [0, 3, 4]})
    assert small.sizes == kind([1, 3, 1]) and network.model.sizes == kind([2, 5, 1])
    assert network.equals_masked({"first": [1], "first:1": [0, 3, 4]}) < 1e-10
    plan = save(small, network, tmp_path)
    again = load(tmp_path, Parts(kind([2, 5, 1])))
    assert again.sizes == small.sizes and torch.equal(again.eval()(IMAGE), small.eval()(IMAGE))
    spec = importlib.util.spec_from_file_location("loader", tmp_path / "load.py")
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    assert loader.load(Parts(kind([2, 5, 1])), tmp_path).sizes == small.sizes
    for bad in ([1, 6, 1], [1, 3], 3, [0, 3, 1]):
        text = json.loads(plan.read_text())
        text["attributes"][""]["sizes"] = bad
        plan.write_text(json.dumps(text))
        with pytest.raises(ModelError, match="sizes"):
            load(tmp_path, Parts(kind([2, 5, 1])))


def test_what_no_attribute_can_make_work_is_pinned():
    class Fixed(Sized):
        def forward(self, x):
            return super().forward(x) * (self.width / 8)

    network = trace(Fixed(width=8), IMAGE)
    assert not network.groups and "tied to the constant 8 (self.width)" in network.pinned[0].reason


def test_only_public_sizes_of_unregistered_classes_may_follow():
    model = Sized(width=8, flag=True, one=1, ratio=8.0, _hidden=8, parts=(3, 5), ones=[1, 1], mixed=[2, None], none=[])
    assert [name for name in vars(model) if may_follow(model, name)] == ["width", "parts"]
    assert not may_follow(nn.Conv2d(3, 8, 1), "out_channels") and not may_follow(model, "absent")


def test_followers_are_saved_and_loaded_and_cannot_be_abused(tmp_path):
    network = trace(Sized(width=8, other=5), IMAGE)
    small = network.shrink({"first": [0, 4]})
    plan = save(small, network, tmp_path)
    assert json.loads(plan.read_text())["attributes"][""] == {"width": 2}
    again = load(tmp_path, Sized(width=8, other=5))
    assert again.width == 2 and torch.equal(again.eval()(IMAGE), small.eval()(IMAGE))
    for bad in ({"width": 9}, {"width": 0}, {"training": 0}, {"other": [1]}, {"absent": 1}):
        text = json.loads(plan.read_text())
        text["attributes"][""] = bad
        plan.write_text(json.dumps(text))
        with pytest.raises(ModelError):
            load(tmp_path, Sized(width=8, other=5))
