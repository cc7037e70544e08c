"""What the nodes of real ONNX files have to do, and which node an operation of a runtime stands for."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from netadapt.errors import UsageError
from netadapt.explain.onnx_work import NodeWork, OnnxFile
from netadapt.export.onnx import to_proto


class Residual(nn.Module):
    """A grouped convolution with an activation, one that is added to it, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 8, 3, padding=1, groups=2)
        self.second = nn.Conv2d(8, 8, 1)
        self.last = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        logits: torch.Tensor = self.last((self.second(x) + x).relu().mean((2, 3)))
        return logits


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "net.onnx"
    path.write_bytes(to_proto(Residual().eval(), torch.zeros(2, 4, 6, 6)).SerializeToString())
    return OnnxFile(path)


def test_the_work_of_the_nodes_by_hand(file):
    first, last = file.works["/network/first/Conv"], file.works["/network/last/Gemm"]
    assert (first.inputs, first.outputs, first.fan_in, first.area) == (4, 8, 2, 9 * 36 * 2)
    assert first.elements == 2 * 36 * (4 + 8) + 8 * 2 * 9 + 8
    assert (last.inputs, last.outputs, last.fan_in, last.area) == (8, 5, 8, 2)
    assert [name.split("/")[-1] for name in file.works] == ["Conv", "Conv", "ReduceMean", "Gemm"]


@pytest.mark.parametrize(
    ("operation", "node"),
    [
        ("/network/first/Conv", "/network/first/Conv"),
        ("/network/first/Conv/WithoutBiases", "/network/first/Conv"),
        ("/network/Relu_output_0_nchwc", "/network/first/Conv"),
        ("/network/Relu_1_output_0_nchwc_token_7", "/network/second/Conv"),  # fused: convolution, sum and activation
        ("network.last", "/network/last/Gemm"),
        ("ReorderOutput_token_3", None),
    ],
)
def test_operations_find_their_nodes(file, operation, node):
    assert file(operation) == node


@pytest.mark.parametrize("content", [b"no network", b"", onnx.TensorProto(name="w").SerializeToString()])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "text.onnx").write_bytes(content)
    with pytest.raises(UsageError, match="is no ONNX file"):
        OnnxFile(tmp_path / "text.onnx")


def test_a_file_that_protobuf_does_not_read_is_told_as_such(tmp_path):
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(1 << 31)
    with pytest.raises(UsageError, match=r"has 2\.00 GiB, and an ONNX file less than 2; keep the weights beside it"):
        OnnxFile(tmp_path / "large.onnx")


def test_a_file_that_cannot_be_read_is_told_as_such(tmp_path, monkeypatch):
    (tmp_path / "a.onnx").write_bytes(b"x")
    monkeypatch.setattr(Path, "read_bytes", lambda path: (_ for _ in ()).throw(PermissionError(13, "not yours")))
    with pytest.raises(UsageError, match=r"cannot be read \(PermissionError: .*not yours\)"):
        OnnxFile(tmp_path / "a.onnx")


def test_an_onnx_file_whose_sizes_fail_is_told_as_such(tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    graph = helper.make_graph(nodes, "g", values(x=(1, 2)), values(y=(1, 2)))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("somebody", 1)]), tmp_path / "a.onnx")
    with pytest.raises(UsageError, match=r"is an ONNX file, but the sizes in it cannot be worked out \(.*: .+\)"):
        OnnxFile(tmp_path / "a.onnx")


OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("somebody", 1)]


def values(**shapes):
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]


def constant(name, *shape):
    return helper.make_tensor(name, TensorProto.FLOAT, shape, [0.0] * math.prod(shape))


def written(path, nodes, inputs, outputs, constants=(), between=()):
    """Write a file by hand and open it."""
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants, value_info=between)
    onnx.save(helper.make_model(graph, opset_imports=OPSETS), path)
    return OnnxFile(path)


CONV = helper.make_node("Conv", ["x", "conv.w", "conv.b"], ["y"], name="conv", pads=[1, 1, 1, 1])
WEIGHTS = [constant("conv.w", 8, 4, 3, 3), constant("conv.b", 8)]
COUNTED = NodeWork(4, 8, 4, 9 * 36, 36 * (4 + 8) + 8 * 4 * 9 + 8)


@pytest.mark.parametrize(
    ("shape", "work"),
    [
        ((1, 4, 6, 6), COUNTED),
        ((None, 4, 6, 6), COUNTED),
        (("batch", 4, 6, 6), COUNTED),
        ((1, 4, "height", 6), NodeWork(4, 8, 0, 0, 0, known=False)),
        (("batch", 4, 6, None), NodeWork(4, 8, 0, 0, 0, known=False)),
        ((1, None, 6, 6), NodeWork(0, 8, 0, 0, 0, known=False)),
        (None, NodeWork(0, 0, 0, 0, 0, known=False)),
    ],
)
def test_a_free_batch_is_one_and_other_open_sizes_are_not(tmp_path, shape, work):
    file = written(tmp_path / "a.onnx", [CONV], values(x=shape), values(y=None), WEIGHTS)
    assert file.works == {"conv": work}
    assert file("conv") == file("y_nchwc") == "conv"


def test_the_name_of_the_batch_counts_wherever_it_stands(tmp_path):
    transposed = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    inputs = [*values(x=(5, "n", 4)), *values(token=("n", 2))]
    file = written(tmp_path / "a.onnx", [transposed], inputs, values(y=(5, "n", 3)), [constant("w", 4, 3)])
    assert file.works["product"] == NodeWork(4, 3, 4, 5, 5 * (4 + 3) + 12)


def test_a_first_size_between_nodes_is_no_batch(tmp_path):
    """Nobody knows how many rows there are that are not zero."""
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"], name="places"),
        helper.make_node("Transpose", ["places"], ["rows"], name="rows", perm=[1, 0]),
        helper.make_node("Cast", ["rows"], ["floats"], name="floats", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["floats", "w"], ["y"], name="product"),
    ]
    file = written(tmp_path / "a.onnx", nodes, values(x=(6, 2)), values(y=None), [constant("w", 2, 3)])
    assert file.works["product"] == NodeWork(2, 3, 0, 0, 0, known=False)


def test_sizes_that_follow_from_the_batch_are_known(tmp_path):
    """What an exporter makes of x.view(len(x), -1)."""
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"], name="sizes"),
        helper.make_node("Gather", ["sizes", "first"], ["batch"], name="batch"),
        helper.make_node("Concat", ["batch", "rest"], ["target"], name="target", axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "w"], ["y"], name="product"),
    ]
    integers = [helper.make_tensor(n, TensorProto.INT64, [1], [v]) for n, v in (("first", 0), ("rest", -1))]
    inputs, outputs = values(x=("n", 4, 5)), values(y=("n", 3))
    file = written(tmp_path / "a.onnx", nodes, inputs, outputs, [*integers, constant("w", 20, 3)])
    assert file.works["product"] == NodeWork(20, 3, 20, 1, 20 + 3 + 60)


@pytest.mark.parametrize("unknown", ["x", "w"])
def test_a_shape_that_is_not_known_shifts_no_other(tmp_path, unknown):
    """An operation of somebody's own puts out the input, or the weights."""
    inputs = {"x": (1, 4, 6, 6), "w": (8, 4, 3, 3), "b": (8,)}
    nodes = [
        helper.make_node("Own", ["raw"], [unknown], name="own", domain="somebody"),
        helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["y"], ["z"], name="relu"),
    ]
    given = values(raw=inputs.pop(unknown), **inputs)
    file = written(tmp_path / "a.onnx", nodes, given, values(z=(1, 8, 6, 6)), between=values(y=(1, 8, 6, 6)))
    assert list(file.works) == ["own", "conv"] and file("z") == "conv"
    assert file.works["conv"] == NodeWork(4 if unknown == "w" else 0, 8, 0, 0, 0, known=False)


def test_an_input_that_is_left_out_is_no_open_size(tmp_path):
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], name="resize")
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [4], [1, 2, 6, 6])
    file = written(tmp_path / "a.onnx", [node], values(x=(1, 2, 3, 3)), values(y=None), [sizes])
    assert file.works["resize"] == NodeWork(2, 2, 0, 0, 18 + 4 + 72)
