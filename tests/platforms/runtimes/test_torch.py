"""PyTorch as a runtime: conformance, values and refusals; the compiled mode is slow to start."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netadapt.errors import PlatformError
from netadapt.platforms import resolve_platform
from netadapt.platforms.on_device.engine_torch import read_program
from netadapt.testing import PlatformSuite


class TestTorch(PlatformSuite):
    def make_platform(self):
        return resolve_platform("torch")


@pytest.mark.slow
class TestCompiledTorch(PlatformSuite):
    def make_platform(self):
        return resolve_platform("torch?compiled=true")


def test_the_compiled_mode_is_in_the_name_and_costly():
    platform = resolve_platform("torch?compiled=true")
    assert platform.name == "local/torch?threads=1&compiled=true"
    assert platform.fingerprint()["compiled"] == "true"
    assert platform.costly
    assert not resolve_platform("torch").costly


def test_eager_is_not_in_the_name():
    platform = resolve_platform("torch?compiled=false")
    assert platform.name == "local/torch?threads=1"
    assert "compiled" not in platform.fingerprint()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_cuda_is_refused(tmp_path):
    platform = resolve_platform("torch?cuda=true")
    try:
        with pytest.raises(PlatformError, match="cuda=true, but"):
            platform.fingerprint()
        artifact = platform.compile(nn.Linear(4, 4), torch.ones(1, 4), tmp_path)
        with pytest.raises(PlatformError, match="cuda=true, but"):
            platform.session(artifact, seconds=0.01, warmups=1)
    finally:
        platform.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_a_gpu_is_timed_and_named(tmp_path):
    platform = resolve_platform("torch?cuda=true")
    try:
        assert platform.fingerprint()["device"] == torch.cuda.get_device_name(0)
        artifact = platform.compile(nn.Conv2d(3, 8, 3), torch.ones(1, 3, 16, 16), tmp_path)
        assert platform.session(artifact, seconds=0.02, warmups=2).latency_ms
    finally:
        platform.close()


def test_the_file_is_not_another_safetensors_file(tmp_path):
    from safetensors.torch import save_file

    platform = resolve_platform("torch")
    artifact = platform.compile(nn.Linear(4, 4), torch.ones(1, 4), tmp_path)
    with artifact.path.open("rb") as file:
        assert read_program(file).inputs[0]["shape"] == [1, 4]
    save_file({"weight": torch.ones(4)}, artifact.path)
    try:
        with pytest.raises(PlatformError, match="holds weights only"):
            platform.session(artifact, seconds=0.01, warmups=1)
    finally:
        platform.close()


def test_memory_is_the_networks(tmp_path):
    platform = resolve_platform("torch")
    try:
        large = platform.compile(nn.Linear(2000, 2000), torch.zeros(1, 2000), tmp_path)
        assert 16 <= platform.session(large, seconds=0.01, warmups=1).memory_mb < 100
    finally:
        platform.close()
