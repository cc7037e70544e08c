"""ncnn: conformance on the processor and on Vulkan, values against PyTorch, and what cannot be converted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ncnn_outputs import assert_same_ncnn
from needs import needs, needs_vulkan
from torch import nn

from netadapt.errors import PlatformError
from netadapt.models import resolve_model
from netadapt.network import trace
from netadapt.platforms import resolve_platform
from netadapt.platforms.artifacts import artifact_of
from netadapt.platforms.runtimes.ncnn import run_once
from netadapt.testing import PlatformSuite

needs("ncnn", "pnnx")


class TestNcnn(PlatformSuite):
    def make_platform(self):
        return resolve_platform("ncnn")

    def assert_same_network(self, first, second):
        assert_same_ncnn(first, second)


class TestNcnnOnVulkan(TestNcnn):
    def make_platform(self):
        needs_vulkan()
        return resolve_platform("ncnn?vulkan=true")


@pytest.fixture
def platform():
    platform = resolve_platform("ncnn")
    yield platform
    platform.close()


class Pair(nn.Module):
    """Two inputs and two outputs."""

    def forward(self, left, right):
        return left @ right, torch.relu(left).mean((1, 2))


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), torch.randn(1, 3, 9, 7)),
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 35, 5)), torch.randn(4, 3, 9, 7)),
        (nn.Linear(6, 4), torch.randn(1, 6)),
        (Pair(), (torch.randn(1, 5, 6), torch.randn(1, 6, 7))),
    ],
)
def test_values_are_pytorchs(platform, tmp_path, model, inputs):
    artifact = platform.compile(model, inputs, tmp_path)
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    with torch.no_grad():
        wanted = model(*tensors)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    for got, expected in zip(run_once(artifact, {}, [t.numpy() for t in tensors]), wanted, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
    assert platform.session(artifact, seconds=0.01, warmups=1).latency_ms


@pytest.mark.parametrize(
    "name", ["mobilenet_v1?width=0.25&resolution=64", "mobilenet_v2?width=0.35&resolution=64", "resnet20"]
)
def test_our_networks_at_other_widths(platform, tmp_path, name):
    model, example = resolve_model(name)
    network = trace(model, example, prove=False)
    widths = {group.name: max(1, group.width // 2) for group in network.groups}
    whole = platform.compile(model, example, tmp_path)
    small = platform.compile_widths(network, widths, tmp_path)
    shrunk = network.shrink({group: range(width) for group, width in widths.items()})
    with torch.no_grad():
        expected = shrunk.eval()(example).numpy()
    np.testing.assert_allclose(run_once(small, {}, [example.numpy()])[0], expected, rtol=1e-3, atol=1e-3)
    assert small.companions[1].stat().st_size < whole.companions[1].stat().st_size


def test_vulkan_computes_what_pytorch_does(tmp_path):
    needs_vulkan()
    model, example = resolve_model("mobilenet_v1?width=0.25&resolution=64")
    platform = resolve_platform("ncnn?vulkan=true")
    artifact = platform.compile(model, example, tmp_path)
    with torch.no_grad():
        expected = model.eval()(example).numpy()
    (got,) = run_once(artifact, platform.runtime.options, [example.numpy()])
    assert np.abs(got - expected).max() <= 0.05 * np.abs(expected).max()
    assert platform.name == "local/ncnn?threads=1&vulkan=1"
    assert platform.fingerprint()["dtype"] == "float16"
    platform.close()


def test_no_vulkan_device_is_told(tmp_path, monkeypatch):
    for variable in ("VK_ICD_FILENAMES", "VK_DRIVER_FILES"):  # the first is the old name of the second
        monkeypatch.setenv(variable, str(tmp_path / "no driver.json"))
    platform = resolve_platform("ncnn?vulkan=true")
    artifact = platform.compile(nn.Linear(6, 4), torch.zeros(1, 6), tmp_path)
    with pytest.raises(PlatformError, match="no Vulkan device"):
        platform.session(artifact, seconds=0.01, warmups=1)
    platform.close()


def test_all_files_are_named_by_content_and_one_lacking_is_told(platform, tmp_path):
    artifact = platform.compile(nn.Linear(6, 4), torch.zeros(1, 6), tmp_path)
    assert artifact_of(artifact.path) == artifact
    assert sorted(tmp_path.iterdir()) == sorted(artifact.files)
    artifact.companions[1].unlink()
    with pytest.raises(PlatformError, match="cannot load"):
        platform.session(artifact, seconds=0.01, warmups=1)


class Sorted(nn.Module):
    def forward(self, images):
        return torch.sort(images, dim=-1).values


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (Sorted(), torch.randn(1, 3, 8), "ncnn"),
        (nn.Embedding(10, 4), torch.zeros(1, 3, dtype=torch.int64), "float32 inputs only"),
    ],
)
def test_what_ncnn_cannot_run_is_told(platform, tmp_path, model, inputs, message):
    with pytest.raises(PlatformError, match=message):
        platform.compile(model, inputs, tmp_path)
