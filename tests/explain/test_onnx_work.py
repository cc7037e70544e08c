"""What the nodes of real ONNX files have to do, and which node an operation of a runtime stands for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netadapt.errors import UsageError
from netadapt.explain.onnx_work import OnnxFile
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


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(UsageError, match="is no ONNX file"):
        OnnxFile(tmp_path / "text.onnx")
