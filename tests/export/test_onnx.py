"""Export: what comes out computes what goes in, in the form that is deployed."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from netadapt.errors import PlatformError
from netadapt.export import export_onnx
from netadapt.export.graph import initializers
from netadapt.export.onnx import run_proto, to_proto
from netadapt.models import resolve_model


def run(proto, *arrays):
    names = [entry.name for entry in proto.graph.input]
    return run_proto(proto.SerializeToString(), dict(zip(names, arrays, strict=True)))


@pytest.fixture
def images():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)
        self.head = nn.Linear(4, 2)

    def forward(self, images):
        return self.head(torch.relu(self.norm(self.conv(images))).mean((2, 3)))


def test_batch_norms_are_folded_and_the_batch_is_the_examples(images):
    model = Block()
    proto = to_proto(model, images)
    assert "BatchNormalization" not in {node.op_type for node in proto.graph.node}
    assert [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim] == [2, 3, 8, 8]
    expected = model.eval()(images).detach().numpy()
    np.testing.assert_allclose(run(proto, images.numpy())[0], expected, atol=1e-5)


class TwoInputs(nn.Module):
    def forward(self, left, right, scale=2.0, extra=None):
        return {"sum": left + right, "parts": [left * scale, None, right > 0]}


@pytest.mark.parametrize(
    ("example", "names"),
    [
        ((torch.ones(1, 2), torch.zeros(1, 2)), ["input_0", "input_1"]),
        ((torch.ones(1, 2), torch.zeros(1, 2), 3.0), ["input_0", "input_1"]),
        ({"left": torch.ones(1, 2), "right": torch.zeros(1, 2)}, ["left", "right"]),
        ({"right": torch.zeros(1, 2), "left": torch.ones(1, 2)}, ["right", "left"]),
    ],
)
def test_tuples_dicts_and_nested_outputs(example, names):
    proto = to_proto(TwoInputs(), example)
    assert [entry.name for entry in proto.graph.input] == names
    assert len(proto.graph.output) == 3


def test_subnormal_weights_are_flushed():
    model = nn.Linear(4, 4)
    with torch.no_grad():
        model.weight[0] = 1e-40
    weights = initializers(to_proto(model, torch.ones(1, 4))).values()
    assert not any(((np.abs(w) < np.finfo(np.float32).tiny) & (w != 0)).any() for w in weights if w.dtype == np.float32)
    assert (model.weight[0] == 1e-40).all()


class OnlyDynamo(nn.Module):
    """The TorchScript exporter has no `torch.special.bessel`-free way to do this one."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        if torch.jit.is_tracing():
            raise RuntimeError("not this way")
        return self.linear(x)


def test_the_new_exporter_is_the_way_out():
    model = OnlyDynamo()
    x = torch.randn(1, 4)
    np.testing.assert_allclose(run(to_proto(model, x), x.numpy())[0], model(x).detach().numpy(), atol=1e-6)


class Liar(nn.Module):
    """Computes another thing when it is exported."""

    def forward(self, x):
        return x * 3 if torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling() else x * 2


@pytest.mark.parametrize("example", [torch.ones(1, 4), torch.zeros(1, 4)], ids=["ones", "zeros, which prove nothing"])
def test_an_export_that_computes_another_thing_is_refused(example):
    with pytest.raises(PlatformError, match="differ by"):
        to_proto(Liar(), example)


@pytest.mark.parametrize("resolution", [96, 100, 50])
def test_same_padding_is_exported_right_at_every_size(resolution):
    model, images = resolve_model(f"mobilenet_v1?width=0.25&resolution={resolution}&classes=5&same_padding=1")
    assert "Pad" not in {node.op_type for node in to_proto(model, images).graph.node}


def test_exporting_is_silent_and_leaves_no_trace(images, capfd):
    model = Block().train()
    grad, state = torch.is_grad_enabled(), torch.random.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_proto(model, images)
    assert model.training
    assert model.norm.num_batches_tracked == 0
    assert torch.is_grad_enabled() == grad
    assert torch.equal(torch.random.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")


def test_a_file_is_written_whole(images, tmp_path):
    path = export_onnx(Block(), images, tmp_path / "deep" / "model.onnx")
    onnx.checker.check_model(str(path))
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"]
