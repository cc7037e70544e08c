"""Real traced networks, small and middling, and simulated devices; shared by the tests of `resources/`."""

from __future__ import annotations

import pytest
import torch

from netadapt.models import resolve_model
from netadapt.network import Network, trace
from netadapt.platforms.simulated import SimulatedPlatform


@pytest.fixture(scope="session")
def tiny() -> Network:
    """A network of three groups: two convolutions with norms and a hidden linear layer."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1),
        torch.nn.BatchNorm2d(16),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(32, 24),
        torch.nn.ReLU(),
        torch.nn.Linear(24, 5),
    ).eval()
    return trace(model, torch.randn(1, 3, 16, 16), prove=False)


@pytest.fixture(scope="session")
def mobile() -> Network:
    """MobileNetV1 at half width and 64 pixels: 14 groups, depthwise layers."""
    return trace(*resolve_model("mobilenet_v1?width=0.5&resolution=64"), prove=False)


@pytest.fixture
def device() -> SimulatedPlatform:
    """A device with vectors of 16 channels whose sessions differ by 1 %."""
    return SimulatedPlatform(staircase=16, noise=0.01)
