"""What all runtimes with converters share; seen with executorch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netadapt.errors import PlatformError
from netadapt.network import trace
from netadapt.platforms import resolve_platform

pytestmark = [pytest.mark.needs("executorch"), pytest.mark.slow]
IMAGES = torch.linspace(-1, 1, 3 * 8 * 8).reshape(1, 3, 8, 8)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten())


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("NETADAPT_CACHE", str(tmp_path / "cache"))
    platforms = []

    def make():
        platforms.append(resolve_platform("executorch"))
        return platforms[-1].runtime

    yield make
    for platform in platforms:
        platform.close()


def started(runtime):
    return runtime._client._process.pid is not None


def test_nothing_is_converted_twice(runtime, tmp_path):
    first, traced = runtime(), trace(network(), IMAGES, prove=False)
    small = {group.name: 3 for group in traced.groups}
    whole = first.compile(network(), IMAGES, tmp_path / "a")
    cut = first.compile_widths(traced, small, tmp_path / "a")
    assert started(first)
    again, other = runtime(), trace(network(seed=1), IMAGES, prove=False)
    assert again.compile(network(), IMAGES, tmp_path / "b").sha256 == whole.sha256
    # for timing only the structure counts
    assert again.compile_widths(other, small, tmp_path / "b").sha256 == cut.sha256
    assert not started(again)
    assert again.compile(network(seed=1), IMAGES, tmp_path / "b").sha256 != whole.sha256


def test_a_file_that_computes_something_else_is_never_kept(runtime, tmp_path, monkeypatch):
    made = runtime()
    convert = made._client.convert
    monkeypatch.setattr(made._client, "convert", lambda program: (convert(program)[0], [torch.ones(1, 64).numpy()]))
    with pytest.raises(PlatformError, match="executorch does not compute what the network does"):
        made.compile(network(), IMAGES, tmp_path)
    assert not list(tmp_path.rglob("*.pte"))
