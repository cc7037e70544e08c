"""Contractions with a weight (convolutions, linear): what is summed over is tied, the weight labels the result."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from netadapt.network import labels as L
from netadapt.network.operation import Operation, Parameter, Value
from netadapt.network.rules.registry import rule
from netadapt.network.structure import Kind

ONE = torch.full((1,), L.NONE)


@rule("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d")
def convolution(op: Operation) -> Value:
    """Dense, depthwise (any multiplier), grouped, transposed."""
    labels, weight, groups = op.labels("input"), op.value("weight"), int(op.args["groups"])
    if not isinstance(weight, Parameter):
        return op.pin_all(f"the weight of {op.name} is computed in forward")
    space = len(weight.shape) - 2
    if labels.ndim != space + 2:
        return op.pin_all(f"{op.name} on units that are not dimension 1")
    channels = L.vector(labels, 1)
    if channels is None:  # what comes in stays; what is made of it may go
        op.pin(labels, f"{op.name} on units that are not dimension 1")
        channels = L.none((labels.shape[1],))
    outputs, fan_in, kind = _weight_atoms(op, weight, channels, groups)
    _tie_bias(op, outputs)
    stride = op.args["stride"]
    op.cost(
        kind,
        channels,
        outputs,
        fan_in=fan_in,
        kernel=weight.shape[2:],
        stride=[stride] * space if isinstance(stride, int) else list(stride) * (space // len(stride)),
        input_size=labels.shape[2:],
        output_size=op.shape[2:],
        batch=labels.shape[0],
    )
    return L.along(outputs, 1, op.shape)


def _weight_atoms(op: Operation, weight: Parameter, channels: Tensor, groups: int) -> tuple[Tensor, Tensor, Kind]:
    """Tie the weight to the channels that come in; return labels of the outputs, labels of what is summed, the kind."""
    transposed = "transpose" in op.name
    if groups == 1:
        out_dim, in_dim = (1, 0) if transposed else (0, 1)
        fan_in, outputs = op.axis(weight, in_dim, "input"), op.axis(weight, out_dim, "output")
        op.tie(fan_in, channels)
        return outputs, fan_in, "conv"
    if groups == channels.numel():
        own = op.axis(weight, 0)  # (groups * multiplier,), transposed (groups,)
        op.tie(own.reshape(groups, -1), channels[:, None])
        return own.repeat_interleave(weight.shape[1]) if transposed else own, ONE, "depthwise"
    return _transposed(op, weight, channels, groups) if transposed else _grouped(op, weight, channels, groups)


def _grouped(op: Operation, weight: Parameter, channels: Tensor, groups: int) -> tuple[Tensor, Tensor, Kind]:
    """Every group keeps the same local inputs and the same local outputs, so that the groups stay equally large."""
    fan_in, outputs = op.axis(weight, 1, "input"), op.axis(weight, 0, "output")
    op.tie(fan_in[None, :], channels.reshape(groups, -1))
    local = outputs.reshape(groups, -1)
    op.tie(local, local[:1])
    return outputs, fan_in, "grouped"


def _transposed(op: Operation, weight: Parameter, channels: Tensor, groups: int) -> tuple[Tensor, Tensor, Kind]:
    """As `_grouped`, but the weight holds the inputs of all groups one by one and their outputs once."""
    fan_in, outputs = op.axis(weight, 0, "input"), op.axis(weight, 1, "output")
    op.tie(fan_in, channels)
    local = fan_in.reshape(groups, -1)
    op.tie(local, local[:1])
    return outputs.repeat(groups), local[0], "grouped"


def _tie_bias(op: Operation, outputs: Tensor) -> None:
    bias = op.value("bias")
    if bias is not None:
        op.tie(op.as_labels(bias).reshape(-1), outputs)


@rule("linear")
def linear(op: Operation) -> Value:
    """``input @ weight.T + bias`` along the last dimension."""
    weight = op.value("weight")
    if not isinstance(weight, Parameter):
        return op.pin_all("the weight of linear is computed in forward")
    return _matrix(op, op.labels("input"), weight.permuted((1, 0)), op.value("bias"))


@rule("addmm")
def addmm(op: Operation) -> Value:
    """``bias + input @ weight``."""
    weight, plain = op.value("mat2"), op.args.get("beta", 1) == 1 and op.args.get("alpha", 1) == 1
    if not isinstance(weight, Parameter) or not plain:
        return op.pin_all("addmm without a weight, or scaled")
    return _matrix(op, op.labels("mat1"), weight, op.value("self"))


def _matrix(op: Operation, labels: Tensor, weight: Parameter, bias: Value) -> Value:
    """Contract the last dimension of ``labels`` with dimension 0 of ``weight``."""
    other = [dim for dim in L.varying(labels) if dim != labels.ndim - 1]
    if other:
        return _alike(op, labels, weight, bias)
    channels = L.compact(labels).reshape(-1).expand(labels.shape[-1])
    fan_in, outputs = op.axis(weight, 0, "input"), op.axis(weight, 1, "output")
    op.tie(fan_in, channels)
    if bias is not None:
        op.tie(op.as_labels(bias).reshape(-1), outputs)
    op.cost("linear", channels, outputs, fan_in=fan_in, kernel=(1, 1), stride=(1, 1), batch=_product(labels.shape[:-1]))
    return L.along(outputs, len(op.shape) - 1, op.shape)


def _alike(op: Operation, labels: Tensor, weight: Parameter, bias: Value) -> Value:
    """Use one weight for all units, which lie along other dimensions (heads, or the channels of a token mixer)."""
    reason = f"{op.name} uses it for all units of another dimension"
    carried = op.settle(labels, [-1], reason)
    ones = [op.axis(weight, dim) for dim in (0, 1)] + ([] if bias is None else [op.as_labels(bias).reshape(-1)])
    for atoms in ones:
        op.pin(atoms, reason)
    units = L.compact(carried).reshape(-1)
    fan_in, columns = L.none((weight.shape[0],)), weight.shape[1]
    rest = _product(labels.shape[:-1]) * columns // units.numel()
    op.cost("product", L.compact(labels).reshape(-1), units, fan_in=fan_in, kernel=(1,), batch=rest)
    return L.spread(carried, op.shape)


def _product(sizes: Sequence[int]) -> int:
    return math.prod(sizes)
