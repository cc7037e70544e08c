"""Multiply-accumulates of ONNX operations against a count by hand or by torch."""

from __future__ import annotations

import pytest
import torch
from onnx import helper
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from netadapt.explain.onnx_products import Products, products
from netadapt.explain.onnx_work import OnnxFile
from netadapt.export.onnx import to_proto


def macs(found: Products | None) -> int:
    return found.outputs * found.fan_in * found.area if found else 0


def node(kind, inputs=2, **attributes):
    return helper.make_node(kind, [f"x{i}" for i in range(inputs)], ["y"], **attributes)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.Conv2d(6, 9, 3, stride=2, groups=3), (2, 6, 9, 8)),
        (nn.Conv1d(6, 4, 5), (1, 6, 20)),
        (nn.ConvTranspose2d(6, 4, 3, stride=2), (2, 6, 5, 4)),
        (nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2, output_padding=1), (1, 6, 5, 4)),
        (nn.Linear(6, 4), (3, 7, 6)),
    ],
)
def test_files_of_layers_are_counted_as_torch_counts(network, shape, tmp_path):
    x = torch.randn(shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(x)
    (tmp_path / "net.onnx").write_bytes(to_proto(network.eval(), x).SerializeToString())
    works = OnnxFile(tmp_path / "net.onnx").works.values()
    assert sum(work.outputs * work.fan_in * work.area for work in works) == counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("Conv", [(2, 6, 9, 8), (4, 3, 3, 3)]),
        ("ConvInteger", [(2, 6, 9, 8), (4, 3, 3, 3), (), ()]),
        ("QLinearConv", [(2, 6, 9, 8), (), (), (4, 3, 3, 3), (), (), (), ()]),
    ],
)
def test_quantised_convolutions_are_convolutions(kind, inputs):
    found = products(node(kind, len(inputs)), inputs, (2, 4, 7, 6))
    assert found == Products(6, 4, 3, 9 * 2 * 7 * 6)


@pytest.mark.parametrize(
    ("made", "inputs", "result", "expected"),
    [
        (node("Gemm"), [(5, 6), (6, 3)], (5, 3), Products(6, 3, 6, 5)),
        (node("Gemm", transA=1), [(6, 5), (6, 3)], (5, 3), Products(6, 3, 6, 5)),
        (node("Gemm", transB=1), [(5, 6), (3, 6)], (5, 3), Products(6, 3, 6, 5)),
        (node("MatMulInteger", 3), [(2, 5, 6), (6, 3), ()], (2, 5, 3), Products(6, 3, 6, 10)),
        (node("QLinearMatMul", 8), [(5, 6), (), (), (6, 3), (), (), (), ()], (5, 3), Products(6, 3, 6, 5)),
        (
            node("Einsum", equation="bhid, bhjd -> bhij"),
            [(2, 4, 5, 8), (2, 4, 7, 8)],
            (2, 4, 5, 7),
            Products(8, 7, 8, 40),
        ),
        (node("Einsum", equation="bi,bj->bij"), [(2, 4), (2, 5)], (2, 4, 5), None),
        (node("Einsum", equation="...i,ij->...j"), [(2, 4), (4, 5)], (2, 5), None),
        (node("Relu", 1), [(2, 4)], (2, 4), None),
        (node("MatMul"), [(6,), (6,)], (), None),
    ],
)
def test_products_by_hand(made, inputs, result, expected):
    assert products(made, inputs, result) == expected


def test_an_einsum_has_a_product_for_each_combination_of_letters():
    found = products(node("Einsum", equation="abc,bcd->ad"), [(2, 3, 4), (3, 4, 5)], (2, 5))
    assert macs(found) == 2 * 3 * 4 * 5
