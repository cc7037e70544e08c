"""Multiply-accumulates of ONNX convolutions and products, for `onnx_work.py`; one short function per family."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Products:
    """The multiply-accumulates of a node: ``outputs * fan_in * area``.

    Attributes:
        inputs, outputs: channels.
        fan_in: channels summed over by one output.
        area: multiply-accumulates per pair of an output and a channel summed over.
    """

    inputs: int
    outputs: int
    fan_in: int
    area: int


def products(node: onnx.NodeProto, inputs: Sequence[Shape], result: Shape) -> Products | None:
    """Return the multiply-accumulates of a node; ``None`` if it has none, or if nothing is known of its operation.

    Args:
        node: of the graph.
        inputs: shapes of its inputs, all sizes known; of one that is left out anything.
        result: shape of its first output.
    """
    count = _COUNTS.get(node.op_type)
    return count(node, inputs, result) if count and result and inputs[0] else None


def _convolution(weight: int) -> Callable[[onnx.NodeProto, Sequence[Shape], Shape], Products | None]:
    def count(_: onnx.NodeProto, inputs: Sequence[Shape], result: Shape) -> Products | None:
        source, kernel = inputs[0], inputs[weight]
        if min(len(source), len(kernel), len(result)) < 3:
            return None
        area = math.prod(kernel[2:]) * result[0] * math.prod(result[2:])
        return Products(source[1], result[1], kernel[1], area)

    return count


def _transposed_convolution(_: onnx.NodeProto, inputs: Sequence[Shape], result: Shape) -> Products | None:
    """Every input value meets the kernel once; the weight is ``(inputs, outputs / groups, ...)``."""
    source, kernel = inputs[:2]
    if min(len(source), len(kernel), len(result)) < 3:
        return None
    groups = result[1] // kernel[1]
    return Products(
        source[1], result[1], source[1] // groups, math.prod(kernel[2:]) * source[0] * math.prod(source[2:])
    )


def _product(node: onnx.NodeProto, inputs: Sequence[Shape], result: Shape) -> Products:
    """Count a product of matrices, of which that of `Gemm` may be given transposed."""
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    summed = inputs[0][0 if transposed else -1]
    return Products(summed, result[-1], summed, math.prod(result[:-1]))


def _einsum(node: onnx.NodeProto, inputs: Sequence[Shape], result: Shape) -> Products | None:
    """Count one for each combination of letters where two or more are multiplied and summed; no ellipsis is counted."""
    equation = next(attribute.s.decode() for attribute in node.attribute if attribute.name == "equation")
    terms, arrow, out = equation.replace(" ", "").partition("->")
    sides = terms.split(",")
    if (
        not arrow
        or len(sides) < 2
        or "." in equation
        or any(len(t) != len(s) for t, s in zip(sides, inputs, strict=True))
    ):
        return None
    sizes: Mapping[str, int] = dict(pair for t, s in zip(sides, inputs, strict=True) for pair in zip(t, s, strict=True))
    summed = math.prod(size for letter, size in sizes.items() if letter not in out)
    return Products(inputs[0][-1], result[-1], summed, math.prod(result[:-1])) if summed > 1 else None


_COUNTS: Mapping[str, Callable[[onnx.NodeProto, Sequence[Shape], Shape], Products | None]] = {
    "Conv": _convolution(weight=1),
    "ConvInteger": _convolution(weight=1),
    "QLinearConv": _convolution(weight=3),  # behind the scale and the zero of the input
    "ConvTranspose": _transposed_convolution,
    "Gemm": _product,
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearMatMul": _product,
    "Einsum": _einsum,
}
