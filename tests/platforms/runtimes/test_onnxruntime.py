"""onnxruntime: conformance, slicing against full exports, and what a session is made of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from onnx_outputs import assert_same_onnx
from onnxruntime import get_available_providers

from netadapt.errors import PlatformError
from netadapt.models import resolve_model
from netadapt.network import trace
from netadapt.platforms import Artifact, resolve_platform
from netadapt.platforms.environment import available_cores
from netadapt.platforms.runtimes import onnxruntime
from netadapt.testing import PlatformSuite


class TestOnnxRuntime(PlatformSuite):
    def make_platform(self):
        return resolve_platform("onnxruntime")

    def assert_same_network(self, first, second):
        assert_same_onnx(first, second)


def test_too_many_threads_are_refused():
    with pytest.raises(PlatformError, match="allowed are 1 to"):
        resolve_platform(f"onnxruntime?threads={len(available_cores()) + 1}")
    with pytest.raises(PlatformError, match="allowed are 1 to"):
        resolve_platform("onnxruntime?threads=0")


@pytest.mark.skipif("CUDAExecutionProvider" in get_available_providers(), reason="this onnxruntime has CUDA")
def test_without_its_provider_cuda_is_refused(tmp_path):
    platform = resolve_platform("onnxruntime?cuda=true")
    try:
        with pytest.raises(PlatformError, match="pip install onnxruntime-gpu"):
            platform.fingerprint()
        artifact = platform.compile(torch.nn.ReLU(), torch.zeros(1, 4), tmp_path)
        with pytest.raises(PlatformError, match="pip install onnxruntime-gpu"):
            platform.session(artifact, seconds=0.01, warmups=1)
        assert platform.profile(artifact, seconds=0.01) is None  # its trace has no times of a GPU
    finally:
        platform.close()


def test_with_its_provider_the_gpu_is_the_device(monkeypatch, tmp_path):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "_GPUS", tmp_path)
    platform = resolve_platform("onnxruntime?cuda=true")
    assert platform.fingerprint()["device"] == "CUDA"
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0/information").write_text("Model: \t\t NVIDIA H200\nIRQ: 1\n")
    assert platform.fingerprint()["device"] == "NVIDIA H200"
    assert platform.runtime.distributions[0] == "onnxruntime-gpu"
    assert resolve_platform("onnxruntime").runtime.accelerator() is None


def test_all_threads_work(tmp_path):
    threads = len(available_cores())
    platform = resolve_platform(f"onnxruntime?threads={threads}")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
    try:
        artifact = platform.compile(model, torch.zeros(2, 3, 16, 16), tmp_path)
        assert platform.session(artifact, seconds=0.01, warmups=1).latency_ms
        assert platform.name == f"local/onnxruntime?threads={threads}"
        assert platform.fingerprint()["threads"] == threads
    finally:
        platform.close()


def test_a_network_that_cannot_be_sliced_is_exported_in_full(tmp_path):
    model, example = resolve_model("resnet20")
    network = trace(model, example, prove=False)
    widths = {group.name: group.width // 2 for group in network.groups}
    platform = resolve_platform("onnxruntime")
    small = platform.compile_widths(network, widths, tmp_path)
    assert platform.runtime._template_of(network) is None
    whole = platform.compile(model, example, tmp_path)
    assert small.path.stat().st_size < whole.path.stat().st_size
    platform.close()


def test_it_measures_memory_without_its_own(tmp_path):
    platform = resolve_platform("onnxruntime")
    try:
        small = platform.compile(torch.nn.Linear(8, 8), torch.zeros(1, 8), tmp_path)
        large = platform.compile(torch.nn.Linear(2000, 2000), torch.zeros(1, 2000), tmp_path)
        assert platform.session(small, seconds=0.01, warmups=1).memory_mb < 4
        assert 16 <= platform.session(large, seconds=0.01, warmups=1).memory_mb < 100
    finally:
        platform.close()


def test_its_profile_has_an_operation_for_every_layer(tmp_path):
    model, example = resolve_model("mobilenet_v1?width=0.25&resolution=64")
    platform = resolve_platform("onnxruntime")
    try:
        artifact = platform.compile(model, example, tmp_path)
        profile = platform.profile(artifact, seconds=0.02)
        kinds = [operation.kind.partition(" ")[0].removeprefix("Fused") for operation in profile]
        assert kinds.count("Conv") == 27
        assert kinds.count("Gemm") == 1
        assert "/network/stem/" in profile[0].name or "/network/activation/" in profile[0].name
        with pytest.raises(PlatformError):
            platform.profile(Artifact(tmp_path / "missing.onnx", ""), seconds=0.01)
    finally:
        platform.close()


def test_this_process_keeps_its_cores_and_threads(tmp_path):
    before = (available_cores(), torch.get_num_threads(), dict(os.environ), Path.cwd())
    platform = resolve_platform("onnxruntime")
    artifact = platform.compile(torch.nn.Linear(8, 8), torch.zeros(1, 8), tmp_path)
    platform.session(artifact, seconds=0.01, warmups=1)
    platform.close()
    assert before == (available_cores(), torch.get_num_threads(), dict(os.environ), Path.cwd())
