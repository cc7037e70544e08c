"""openvino: conformance, threads and values."""

from __future__ import annotations

import torch
from needs import needs
from torch import nn

from netadapt.platforms import resolve_platform
from netadapt.platforms.environment import available_cores
from netadapt.platforms.on_device import engine_openvino
from netadapt.testing import PlatformSuite

needs("openvino")


def outputs(path, *inputs):
    compiled = engine_openvino.compile_model(str(path), threads=1)
    return [torch.from_numpy(values) for values in compiled([tensor.numpy() for tensor in inputs]).values()]


class TestOpenVino(PlatformSuite):
    def make_platform(self):
        return resolve_platform("openvino")

    def assert_same_network(self, first, second):
        images = torch.randn(1, 3, 32, 32)
        torch.testing.assert_close(outputs(first.path, images), outputs(second.path, images), rtol=1e-4, atol=1e-5)


def test_it_computes_what_the_network_does(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU6(), nn.Conv2d(16, 8, 3, groups=4)
            )

        def forward(self, images, chosen):
            features = self.layers(images)
            return features[:, chosen], features.mean((2, 3))

    model, inputs = Two().eval(), (torch.randn(2, 3, 12, 12), torch.tensor([1, 5]))
    model.layers[1].running_var.uniform_(0.5, 2.0)
    platform = resolve_platform("openvino")
    artifact = platform.compile(model, inputs, tmp_path)
    platform.close()
    with torch.no_grad():
        expected = list(model(*inputs))
    torch.testing.assert_close(outputs(artifact.path, *inputs), expected, rtol=1e-4, atol=1e-5)


def test_all_threads_work(tmp_path):
    threads = len(available_cores())
    platform = resolve_platform(f"openvino?threads={threads}")
    try:
        artifact = platform.compile(nn.Conv2d(3, 8, 3), torch.zeros(1, 3, 16, 16), tmp_path)
        assert platform.session(artifact, seconds=0.01, warmups=1).latency_ms
        assert platform.name == f"local/openvino?threads={threads}"
    finally:
        platform.close()


def test_memory_is_the_networks(tmp_path):
    platform = resolve_platform("openvino")
    try:
        large = platform.compile(nn.Linear(2000, 2000), torch.zeros(1, 2000), tmp_path)
        assert 16 <= platform.session(large, seconds=0.01, warmups=1).memory_mb < 100
    finally:
        platform.close()
