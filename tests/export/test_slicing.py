"""Slicing against its oracle, the full export of the shrunk network: values, and what the runtime makes of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from netadapt.export import NotSliceable, SlicingTemplate
from netadapt.export.onnx import run_proto, to_proto
from netadapt.models import resolve_model
from netadapt.network import trace


class Residual(nn.Module):
    """A residual sum, a concatenation, a depthwise convolution, squeeze and excitation, fresh equal norms."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.left = nn.Sequential(nn.Conv2d(12, 12, 1, bias=False), nn.BatchNorm2d(12))
        self.depthwise = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False), nn.BatchNorm2d(12))
        self.squeeze, self.excite = nn.Conv2d(12, 6, 1), nn.Conv2d(6, 12, 1)
        self.mix = nn.Conv2d(24, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, images):
        x = self.stem(images)
        x = torch.relu(x + self.left(x))
        y = self.depthwise(x)
        y = y * torch.sigmoid(self.excite(torch.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        return self.head(torch.relu(self.mix(torch.cat([x, y], 1))).flatten(2).mean(2))


class Fixed(nn.Module):
    """Its reshape is a constant in the exported graph once the size is taken as a Python number."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, images):
        x = self.conv(images)
        n, c, h, w = (int(size) for size in x.shape)
        return self.last(x.reshape(n, c, h * w).relu().reshape(n, c, h, w))


def example():
    return torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def residual():
    torch.manual_seed(0)
    network = trace(Residual(), example(), prove=False)
    return network, SlicingTemplate(network)


def outputs(proto, x):
    return run_proto(proto.SerializeToString(), {proto.graph.input[0].name: x.numpy()})[0]


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_slicing_any_units_equals_the_shrunk_network(residual, data):
    network, template = residual
    kept = {}
    for group in network.groups:
        units = st.lists(st.integers(0, group.width - 1), min_size=max(1, group.minimum), unique=True)
        kept[group.name] = sorted(data.draw(units))
    x = example()
    with torch.no_grad():
        expected = network.shrink(kept).eval()(x).numpy()
    np.testing.assert_allclose(outputs(template.slice(kept), x), expected, rtol=1e-4, atol=1e-5)


def test_verification_passes_and_changes_nothing(residual):
    network, template = residual
    before = template.slice({}).SerializeToString()
    assert template.verify(network) < 1e-4
    assert template.slice({}).SerializeToString() == before


def operations(proto, path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(proto.SerializeToString(), options)
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize(
    "spec",
    [
        "mobilenet_v1?width=0.25&resolution=64",
        pytest.param("mobilenet_v2?width=0.25&resolution=64", marks=pytest.mark.slow),
    ],
)
def test_the_runtime_makes_the_same_of_both(spec, tmp_path):
    model, x = resolve_model(spec)
    network = trace(model, x, prove=False)
    template = SlicingTemplate(network)
    template.verify(network)
    kept = {g.name: range(max(g.minimum, g.width * 5 // 8 // g.multiple * g.multiple)) for g in network.groups}
    sliced, full = template.slice(kept), to_proto(network.shrink(kept), x)
    assert operations(sliced, tmp_path / "a.onnx") == operations(full, tmp_path / "b.onnx")
    assert abs(len(sliced.SerializeToString()) / len(full.SerializeToString()) - 1) < 0.1


def test_constants_that_hold_widths_are_noticed():
    network = trace(Fixed(), example(), prove=False)
    assert network.groups
    template = SlicingTemplate(network)
    with pytest.raises(NotSliceable):
        template.verify(network)


class NoExport(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        if torch.jit.is_tracing():
            raise RuntimeError("not this way")
        return self.second(self.first(x))


def test_a_network_without_named_export_is_not_sliceable():
    with pytest.raises(NotSliceable, match="not this way"):
        SlicingTemplate(trace(NoExport(), torch.ones(1, 4), prove=False))
