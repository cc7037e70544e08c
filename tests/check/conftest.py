"""A small residual network and a device made of formulas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from netadapt.platforms import Platform, resolve_platform


class Tiny(nn.Module):
    """Two convolutions tied by a residual add, one of its own, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.inner = nn.Conv2d(16, 32, 3, padding=1)
        self.outer = nn.Conv2d(32, 16, 3, padding=1)
        self.head = nn.Linear(16, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images).relu()
        x = x + self.outer(self.inner(x).relu())
        return self.head(x.mean((2, 3)))


@pytest.fixture
def tiny() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Tiny().eval(), torch.zeros(1, 3, 8, 8)


@pytest.fixture
def platform() -> Iterator[Platform]:
    opened = resolve_platform("simulated")
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NETADAPT_CACHE", str(tmp_path / "cache"))
