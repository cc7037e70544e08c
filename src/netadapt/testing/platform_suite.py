"""What every platform must do, as pytest tests: subclass, give a platform, run.

    class TestMyPlatform(PlatformSuite):
        def make_platform(self):
            return MyPlatform()

No test asserts a time; one asserts that a network with a hundred times the arithmetic is slower.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from netadapt.errors import NetAdaptError, PlatformError
from netadapt.network import Network, trace
from netadapt.platforms.base import Artifact, Platform
from netadapt.platforms.stopwatch import StopwatchProtocol, measure


class SmallNetwork(nn.Module):
    """A convolution, a depthwise one, a pointwise one and a classifier.

    Args:
        width: channels of all convolutions.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return ``(n, 10)`` scores of ``(n, 3, h, w)`` images."""
        scores: Tensor = self.classifier(self.features(images).mean((2, 3)))
        return scores


class _Residual(nn.Module):
    """A block that adds to what comes in, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 10)
        self.block = _Block()

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.block(self.stem(images).relu()).mean((2, 3)))
        return scores


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + self.second(self.first(x).relu())
        return added


class _Broken(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("this network cannot run")


def _network(width: int = 16) -> SmallNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SmallNetwork(width)


_IMAGES = torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)


class PlatformSuite:
    """The conformance suite; override `make_platform`, and the other hooks where the defaults do not fit."""

    def make_platform(self) -> Platform:
        """Return a fresh platform; the suite closes it."""
        raise NotImplementedError

    def assert_same_network(self, first: Artifact, second: Artifact) -> None:
        """Check that two files compute the same; by default that they are the same file.

        Args:
            first: from `compile_widths`.
            second: from `compile` of the shrunk network.
        """
        assert first.sha256 == second.sha256

    @pytest.fixture
    def platform(self) -> Iterator[Platform]:
        """Give a platform and close it."""
        platform = self.make_platform()
        yield platform
        platform.close()

    @pytest.fixture
    def network(self) -> Network:
        """Give a traced network with two channel groups or more."""
        return trace(_network(), _IMAGES, prove=False)

    def test_says_what_it_is(self, platform: Platform) -> None:
        """Name and resources are there, the same in every object."""
        other = self.make_platform()
        try:
            assert platform.name == other.name != ""
            assert "latency" in platform.resources
            assert set(platform.resources) <= {"latency", "energy", "memory"}
        finally:
            other.close()

    def test_fingerprint_is_stable_json(self, platform: Platform) -> None:
        """The fingerprint is a flat JSON object that does not change."""
        fingerprint = dict(platform.fingerprint())
        assert all(isinstance(value, (str, int)) for value in fingerprint.values())
        assert json.loads(json.dumps(fingerprint)) == fingerprint == dict(platform.fingerprint())

    def test_environment_is_json(self, platform: Platform) -> None:
        """The environment can be written to a record."""
        environment: Mapping[str, Any] = platform.environment()
        assert json.loads(json.dumps(environment, allow_nan=False)) == environment

    def test_compile_names_its_content(self, platform: Platform, tmp_path: Path) -> None:
        """The file is in the folder and its hash is right."""
        artifact = platform.compile(_network(), _IMAGES, tmp_path / "new")
        assert artifact.path.resolve().is_relative_to(tmp_path.resolve())
        assert hashlib.sha256(artifact.path.read_bytes()).hexdigest() == artifact.sha256

    def test_compile_is_reproducible(self, platform: Platform, tmp_path: Path) -> None:
        """The same network gives the same file, another one another."""
        first = platform.compile(_network(), _IMAGES, tmp_path / "a")
        again = platform.compile(_network(), _IMAGES, tmp_path / "b")
        other = platform.compile(_network(8), _IMAGES, tmp_path / "c")
        assert first.sha256 == again.sha256 != other.sha256

    def test_compile_leaves_the_model_alone(self, platform: Platform, tmp_path: Path) -> None:
        """Mode, weights, statistics and the random state stay as they were."""
        model = _network().train()
        model.features[1].eval()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        modes = [module.training for module in model.modules()]
        state = torch.random.get_rng_state()
        platform.compile(model, _IMAGES, tmp_path)
        assert modes == [module.training for module in model.modules()]
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert torch.equal(state, torch.random.get_rng_state())

    def test_session_gives_finite_latencies(self, platform: Platform, tmp_path: Path) -> None:
        """A session returns positive finite numbers for all that the platform says it measures."""
        artifact = platform.compile(_network(), _IMAGES, tmp_path)
        reading = platform.session(artifact, seconds=0.02, warmups=2)
        assert reading.latency_ms
        assert all(math.isfinite(value) and value > 0 for value in reading.latency_ms)
        assert (reading.energy_mj is not None) >= ("energy" in platform.resources)
        assert (reading.memory_mb is not None) >= ("memory" in platform.resources)

    def test_much_more_arithmetic_is_slower(self, platform: Platform, tmp_path: Path) -> None:
        """A hundred times the arithmetic takes longer."""
        small = platform.compile(_network(8), _IMAGES, tmp_path)
        large = platform.compile(_network(96), _IMAGES, tmp_path)
        protocol = StopwatchProtocol(sessions=3, seconds=0.02)
        fast, slow = measure(platform, [small, large], protocol=protocol)
        assert slow.median_ms > 2 * fast.median_ms

    def test_widths_equal_the_shrunk_network(self, platform: Platform, network: Network, tmp_path: Path) -> None:
        """`compile_widths` gives what `compile` of the shrunk network gives."""
        widths = {group.name: 5 + i for i, group in enumerate(network.groups)}
        first = platform.compile_widths(network, widths, tmp_path)
        shrunk = network.shrink({name: range(width) for name, width in widths.items()})
        self.assert_same_network(first, platform.compile(shrunk, network.example_inputs, tmp_path))

    def test_a_whole_block_can_be_gone(self, platform: Platform, tmp_path: Path) -> None:
        """`compile_widths` at width 0 gives what `compile` of the network without the block gives."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = trace(_Residual().eval(), _IMAGES, blocks=True)
        first = platform.compile_widths(network, {"block.first": 0}, tmp_path)
        self.assert_same_network(first, platform.compile(network.shrink({"block.first": ()}), _IMAGES, tmp_path))

    def test_widths_not_named_stay(self, platform: Platform, network: Network, tmp_path: Path) -> None:
        """Groups that are not named keep their width."""
        some = platform.compile_widths(network, {}, tmp_path)
        assert some.sha256 == platform.compile_widths(network, network.widths, tmp_path).sha256

    def test_wrong_widths_are_refused(self, platform: Platform, network: Network, tmp_path: Path) -> None:
        """Unknown groups and impossible widths are the user's error."""
        name = network.groups[0].name
        for widths in ({"no such group": 3}, {name: 0}, {name: network.widths[name] + 1}):
            with pytest.raises(NetAdaptError):
                platform.compile_widths(network, widths, tmp_path)

    def test_broken_network_is_refused(self, platform: Platform, tmp_path: Path) -> None:
        """A network that does not run is the user's error."""
        with pytest.raises(PlatformError):
            platform.compile(_Broken(), _IMAGES, tmp_path)

    def test_unusable_file_is_refused_and_forgotten(self, platform: Platform, tmp_path: Path) -> None:
        """A damaged or missing file gives an error, and the next session works."""
        good = platform.compile(_network(), _IMAGES, tmp_path)
        damaged = tmp_path / f"damaged{good.path.suffix}"
        damaged.write_bytes(b"\x00not a network\xff" * 50)
        for path in (damaged, tmp_path / f"missing{good.path.suffix}"):
            with pytest.raises(PlatformError):
                platform.session(replace(good, path=path), seconds=0.01, warmups=1)
        assert platform.session(good, seconds=0.01, warmups=1).latency_ms

    def test_close_twice(self, platform: Platform, tmp_path: Path) -> None:
        """Closing is idempotent, before and after use."""
        platform.close()
        platform.close()
        fresh = self.make_platform()
        fresh.session(fresh.compile(_network(), _IMAGES, tmp_path), seconds=0.01, warmups=1)
        fresh.close()
        fresh.close()
