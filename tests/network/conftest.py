"""The families of networks that the tests of network/ run on: small, alive (random batch statistics), one idea each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netadapt.models.resnet_cifar import ZeroPadShortcut
from netadapt.network import Network, trace


def conv_norm(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    padding = kernel // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class Head(nn.Module):
    def __init__(self, body: nn.Module, features: int) -> None:
        super().__init__()
        self.body, self.drop, self.fc = body, nn.Dropout(0.2), nn.Linear(features, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(self.body(x).mean((2, 3))))


class Inverted(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, hidden: int, squeeze: int = 0) -> None:
        super().__init__()
        self.expand = conv_norm(inputs, hidden, 1)
        self.depthwise = conv_norm(hidden, hidden, 3, stride, hidden)
        self.se = SqueezeExcite(hidden, squeeze) if squeeze else nn.Identity()
        self.act = nn.Hardswish() if squeeze else nn.Identity()
        self.project = conv_norm(hidden, outputs, 1)[:2]
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.act(self.se(self.depthwise(self.expand(x)))))
        return x + y if self.residual else y


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, squeeze, 1), nn.Conv2d(squeeze, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = F.hardsigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        return x * scale


class LinearSqueezeExcite(nn.Module):
    """As often written: pooled, viewed, two linear layers, viewed back and expanded."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(channels, 4), nn.ReLU(), nn.Linear(4, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        n, c, _, _ = x.shape
        return x * self.fc(F.adaptive_avg_pool2d(x, 1).view(n, c)).view(n, c, 1, 1).expand_as(x)


class OptionA(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv_norm(inputs, outputs, 3, stride), conv_norm(outputs, outputs)[:2]
        zeros = outputs - inputs
        self.shortcut = ZeroPadShortcut(stride, zeros // 2, zeros - zeros // 2) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(self.conv1(x)) + self.shortcut(x))


class DenseLayer(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 2 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(2 * growth), nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return torch.cat([x, y], 1)


class Branches(nn.Module):
    """Two branches concatenated, as in Inception, one of them transposed and resized back, as in a U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 8, 3, 2)
        self.left, self.pool = nn.Conv2d(8, 6, 3, 2, 1), nn.AvgPool2d(2)
        self.right = nn.Conv2d(8, 10, 1)
        self.up = nn.ConvTranspose2d(16, 7, 2, 2)
        self.prelu = nn.PReLU(7)
        self.scale = nn.Parameter(torch.rand(7, 1, 1))
        self.norm = nn.GroupNorm(7, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = torch.cat([self.left(x), self.right(self.pool(x))], 1)
        y = self.norm(self.prelu(self.up(y)) * self.scale)
        return torch.cat([F.interpolate(y, scale_factor=0.5), F.max_pool2d(x, 2)], dim=1)


class Shuffle(nn.Module):
    """Chunk, grouped convolution and channel shuffle, with sizes taken from the tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 16, 3, 2)
        self.branch = conv_norm(8, 8, 1)
        self.grouped = conv_norm(16, 24, 3, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.stem(x).chunk(2, dim=1)
        x = torch.cat([a, self.branch(b)], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.grouped(x)


class Shared(nn.Module):
    """One convolution called twice, and two names for one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice, self.out = conv_norm(3, 8), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 12, 1)
        self.again = nn.Conv2d(8, 12, 1)
        self.again.weight = self.out.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.twice(F.relu(self.twice(x)))
        return self.out(x) + self.again(F.silu(x))


class Signal(nn.Module):
    """One-dimensional, keyword inputs, dictionary of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(2, 8, 5, 2), nn.Conv1d(8, 16, 3, groups=8)
        self.norm, self.fc = nn.BatchNorm1d(16), nn.Linear(16, 3)

    def forward(self, wave: Tensor, gain: Tensor) -> dict[str, Tensor]:
        x = self.norm(self.b(F.gelu(self.a(wave * gain))))
        return {"logits": self.fc(x.amax(-1))}


def vgg(norm: bool) -> nn.Module:
    def block(i: int, o: int) -> list[nn.Module]:
        return [nn.Conv2d(i, o, 3, padding=1), *([nn.BatchNorm2d(o)] if norm else []), nn.ReLU(True), nn.MaxPool2d(2)]

    head = [nn.Flatten(), nn.Linear(16 * 4, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, 5)]
    return nn.Sequential(*block(3, 8), *block(8, 12), *block(12, 16), nn.AdaptiveAvgPool2d(2), *head)


def mobilenet_v1() -> nn.Module:
    widths = [8, 16, 24, 24]
    parts = [conv_norm(3, 8, 3, 2)]
    for i, o in pairwise(widths):
        parts += [conv_norm(i, i, 3, 1, i), conv_norm(i, o, 1)]
    return Head(nn.Sequential(*parts), 24)


def multiplier() -> nn.Module:
    return Head(nn.Sequential(conv_norm(3, 6), conv_norm(6, 18, 3, 2, 6), conv_norm(18, 10, 1)), 10)


def dense() -> nn.Module:
    layers = [DenseLayer(8 + 4 * i, 4) for i in range(3)]
    return Head(nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), *layers, conv_norm(20, 10, 1), DenseLayer(10, 4)), 14)


IMAGE = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(5))


def head(features: int, *parts: nn.Module) -> nn.Module:
    return Head(nn.Sequential(*parts), features)


def mobilenet_v2() -> nn.Module:
    return head(12, conv_norm(3, 8, 3, 2), Inverted(8, 8, 1, 24), Inverted(8, 12, 2, 20), Inverted(12, 12, 1, 30))


def mobilenet_v3() -> nn.Module:
    blocks = Inverted(8, 8, 1, 16, 4), Inverted(8, 10, 2, 20, 6)
    return head(10, conv_norm(3, 8, 3, 2), *blocks, LinearSqueezeExcite(10))


def resnet_a() -> nn.Module:
    return head(32, conv_norm(3, 8), OptionA(8, 8, 1), OptionA(8, 16, 2), OptionA(16, 16, 1), OptionA(16, 32, 2))


FAMILIES: dict[str, tuple[Callable[[], nn.Module], object]] = {
    "mobilenet_v1": (mobilenet_v1, IMAGE),
    "mobilenet_v2": (mobilenet_v2, IMAGE),
    "mobilenet_v3": (mobilenet_v3, IMAGE),
    "resnet_a": (resnet_a, IMAGE),
    "vgg": (lambda: vgg(False), IMAGE),
    "vgg_norm": (lambda: vgg(True), IMAGE),
    "densenet": (dense, IMAGE),
    "branches": (lambda: Head(Branches(), 15), IMAGE),
    "shuffle": (lambda: Head(Shuffle(), 24), IMAGE),
    "multiplier": (multiplier, IMAGE),
    "shared": (lambda: Head(Shared(), 12), IMAGE),
    "signal": (Signal, {"wave": torch.randn(2, 2, 32), "gain": torch.rand(2, 1, 1)}),
}


def enliven(model: nn.Module) -> nn.Module:
    """Give batch norms statistics that differ between channels, so that no mistake can hide."""
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.3)
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.bias, 0, 0.3)  # outputs are not all zero where a layer of one unit is dead
    return model.eval()


@pytest.fixture
def alive() -> Callable[[nn.Module], nn.Module]:
    """Return the function that gives batch norms telling statistics."""
    return enliven


@cache
def traced(name: str) -> Network:
    build, inputs = FAMILIES[name]
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return trace(enliven(build()), inputs)


@dataclass(frozen=True)
class Family:
    name: str
    network: Network

    def build(self) -> nn.Module:
        """A fresh instance of the user's class, with other weights."""
        return FAMILIES[self.name][0]()


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return Family(request.param, traced(request.param))


@pytest.fixture
def network_of() -> Callable[[str], Network]:
    """Return a traced family by name."""
    return traced


@pytest.fixture
def random_kept() -> Callable[[Network, int], dict[str, list[int]]]:
    """Return a function from (network, seed) to a random set of kept units for every group, sometimes all or one."""

    def draw(network: Network, seed: int) -> dict[str, list[int]]:
        rng = np.random.default_rng(seed)
        counts = {g.name: int(rng.choice([1, g.width, rng.integers(1, g.width + 1)])) for g in network.groups}
        return {g.name: sorted(rng.choice(g.width, counts[g.name], replace=False).tolist()) for g in network.groups}

    return draw
