"""Reductions, pooling and resizing: free over batch and space, pinned over channels."""

from __future__ import annotations

import re

from torch import Tensor

from netadapt.network import labels as L
from netadapt.network.operation import Operation, Parameter, Value
from netadapt.network.rules.elementwise import elementwise
from netadapt.network.rules.registry import rule

POOLS = """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
    adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d
    max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
"""
RESIZES = """
    upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d
    _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d
    _upsample_bilinear2d_aa _upsample_bicubic2d_aa
"""
REDUCTIONS = """
    mean sum amax amin max min var std prod norm linalg_vector_norm logsumexp any all
"""


@rule(POOLS, kind="pool")
@rule(RESIZES, kind="other")
def over_space(op: Operation) -> Value:
    """Each channel by itself, over the last one, two or three dimensions."""
    value, found = op.value("self" if "self" in op.args else "input"), re.search(r"(\d)d", op.name)
    rank = len(value.shape)
    space = range(rank - int(found[1]) if found else 2, rank)
    labels = op.fixed_along(value, space, f"{op.name} runs over it")  # a table of positions that is resized, say
    if any(dim in space for dim in L.varying(labels)):
        return op.pin_all(f"{op.name} runs over the dimension that holds the units")
    small = L.compact(labels)
    value = op.node.meta["val"]
    if isinstance(value, list | tuple):
        return [L.spread(small, shape) for shape in op.shapes]
    return L.spread(small, op.shape)


@rule(REDUCTIONS, kind="pool")
def reduced(op: Operation) -> Value:
    """Over some dimensions; over units it mixes them: a removal changes the result."""
    if "other" in op.args:  # max(a, b)
        return elementwise(op)
    operand, dims = op.operands()[0], op.args.get("dim")
    if isinstance(dims, int):
        dims = [dims]
    rank = len(operand.shape)
    over = {d % rank for d in dims} if dims and rank else set(range(rank))
    if isinstance(operand, Parameter) and len(operand.long) > 1:
        return _of_a_weight(op, operand, over)
    labels = op.as_labels(operand)
    if _mixes(op, labels, over):
        reason = f"{op.name} runs over channels"
        if op.opaque(labels) or not op.mix(labels, reason):
            return op.pin_all(reason)
        labels = L.none(labels.shape)
    small = op.settle(labels, over, f"{op.name} runs over channels")
    small = small.reshape([s for d, s in enumerate(small.shape) if d not in over or op.args.get("keepdim")])
    value = op.node.meta["val"]
    return [L.spread(small, s) for s in op.shapes] if isinstance(value, list | tuple) else L.spread(small, op.shape)


@rule("softmax log_softmax softmin cumsum normalize argmax argmin sort topk", kind="other")
def along_dimension(op: Operation) -> Value:
    """Mixes what lies along one dimension."""
    labels, dim = next(op.tensors()), op.args.get("dim")
    if dim is None or _mixes(op, labels, {dim % max(labels.ndim, 1)}) or op.shape != tuple(labels.shape):
        return op.pin_all(f"{op.name} runs over channels")
    labels = L.spread(op.settle(labels, [dim], f"{op.name} runs over its units"), op.shape)
    value = op.node.meta["val"]
    return [labels for _ in value] if isinstance(value, list | tuple) else labels


@rule("glu", kind="other")
def gated(op: Operation) -> Value:
    """One half gates the other: their i-th units are tied."""
    labels, dim = op.labels("self"), op.args["dim"]
    if dim % labels.ndim not in L.varying(labels):
        return L.spread(L.compact(labels), op.shape)
    first, second = labels.chunk(2, dim)
    op.tie(first, second)
    return L.tidy(first)


def _of_a_weight(op: Operation, weight: Parameter, over: set[int]) -> Value:
    """Keep the axes that are not reduced: what a weight is normalised by, say."""
    op.mix_axes(weight, over.intersection(weight.long), f"{op.name} runs over an axis of {weight.name}")
    several = isinstance(op.node.meta["val"], list | tuple)
    return [weight.reduced(over, s) for s in op.shapes] if several else weight.reduced(over, op.shape)


def _mixes(op: Operation, labels: Tensor, over: set[int]) -> bool:
    """Tell whether all units lie along the dimensions ``over``, or might (unknown inner structure)."""
    changing = L.varying(labels)
    if not changing:
        return op.opaque(labels)
    return over.issuperset(changing)
