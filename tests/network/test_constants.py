"""Which constant of the source is named when channels cannot go."""

from __future__ import annotations

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netadapt.network import trace

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
CHANNELS = 8


class Net(nn.Module):
    """A convolution, something with a size, and a classifier of all positions."""

    def __init__(self) -> None:
        super().__init__()
        self._dim = 8  # public integers would follow (see test_followers.py)
        self.first, self.fc = nn.Conv2d(3, 8, 1), nn.Linear(512, 2)

    def forward(self, x):
        return self.fc(self.between(self.first(x)))


class Number(Net):
    def between(self, x):
        return x.view(-1, 512)


class Attribute(Net):
    def between(self, x):
        return x.reshape(x.shape[0], self._dim * 64)


class Global(Net):
    def between(self, x):
        return x.expand(-1, CHANNELS, -1, -1).flatten(1)


class Local(Net):
    """The line that fails is not the line with the constant."""

    def between(self, x):
        c = self._dim
        a, b = x.split(c // 2, 1)
        return torch.cat([a, b], 1).flatten(1)


class Padding(Net):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)

    def between(self, x):
        x = F.pad(x, (0, 0, 0, 0, 4, 0))
        return x.flatten(1)


class Silent(Net):
    """Half the channels are half as many rows: no call fails, the outputs have another shape."""

    def between(self, x):
        return x.reshape(-1, 512)

    def forward(self, x):
        return super().forward(x).sum()


class LargerOfTwo(Net):
    """The 2 is a number of pieces that any even number of channels allows."""

    def between(self, x):
        n, c, h, w = x.shape
        return x.view(n, c // 2, 2, h, w).transpose(1, 2).reshape(n, 8, h, w).flatten(1)


CASES = {
    Number: ("512 in", "x.view"),
    Attribute: ("512 (self._dim * 64)", "x.reshape"),
    Global: ("8 (CHANNELS)", "x.expand"),
    Local: ("4 (c // 2)", "x.split"),
    Silent: ("512 in", "x.reshape"),
    LargerOfTwo: ("8 in", "x.view"),
}


@pytest.mark.parametrize("cls", CASES)
def test_the_constant_and_its_line_are_named(cls):
    says, code = CASES[cls]
    network = trace(cls(), IMAGE)
    (pin,) = [pin for pin in network.pinned if pin.layer == "first"]
    assert pin.reason.startswith(f"tied to the constant {says}"), pin
    assert "removing its channels does not work" in pin.reason
    file, line = pin.where.split(":")
    assert file == "test_constants.py"
    assert code in inspect.getsource(inspect.getmodule(cls)).splitlines()[int(line) - 1]
    assert pin.text == f"{pin.reason} ({pin.where})"


def test_sizes_that_follow_the_tensor_are_not_blamed():
    class Following(Net):
        def between(self, x):
            x = x.view(x.shape[0], x.shape[1], 64)
            return x.reshape(1, -1) if len(x) == 1 else x.reshape(2, 512)

    network = trace(Following(), IMAGE)
    reason = {pin.layer: pin.reason for pin in network.pinned}["first"]
    assert "tied to the constant" not in reason and "RuntimeError" in reason


def test_padding_in_forward_names_its_amount():
    network = trace(Padding(), IMAGE)
    assert network.widths == {"first": 4}  # what is padded is followed by nobody: the classifier keeps its rows
    network.verify_shrink(network.model, {"first": [0, 3]})


class OwnSize(nn.Module):
    """Attention as many write it: the size of a head is what came in divided by the number of heads."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 3
        self.qkv, self.proj = nn.Linear(12, 36), nn.Linear(12, 12)

    def forward(self, x):
        B, N, C = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, C)
        return self.proj(x)


def test_a_size_taken_from_what_comes_in_is_named():
    network = trace(OwnSize(), torch.randn(2, 5, 12))
    assert not network.groups
    assert "a size of what comes in" in network.pinned[0].reason
    lines, first = inspect.getsourcelines(OwnSize)
    own = [f"test_constants.py:{first + i}" for i, text in enumerate(lines) if "reshape(B, N" in text]
    assert network.pinned[0].where in own
