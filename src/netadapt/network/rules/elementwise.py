"""Operations that work on each element: what meets is tied."""

from __future__ import annotations

from functools import reduce

import numpy as np
import torch
from torch import Tensor

from netadapt.network.labels import compact, none, spread, tidy, varying, vector
from netadapt.network.operation import Operation, Value
from netadapt.network.rules.registry import rule

COSTLY = """
    abs add addcdiv addcmul atan celu clamp clamp_max clamp_min clip cos div divide elu erf exp expm1 floor gelu
    hardshrink hardsigmoid hardswish hardtanh leaky_relu lerp log log1p log_sigmoid masked_fill maximum minimum
    mish mul multiply neg pow reciprocal relu relu6 rrelu rsqrt rsub selu sigmoid sign silu sin softplus
    softshrink sqrt square sub subtract tan tanh tanhshrink threshold true_divide where eq ge gt le lt ne
    logical_and logical_not logical_or
"""
FREE = """
    alias alpha_dropout clone contiguous detach dropout feature_alpha_dropout feature_dropout lift_fresh
    lift_fresh_copy native_dropout to type_as _to_copy float double half
"""
CONSTANT = """
    _assert_tensor_metadata _assert_scalar _assert_async sym_constrain_range_for_size arange empty full linspace
    ones rand randn scalar_tensor zeros eye empty_like full_like new_empty new_full new_ones new_zeros ones_like
    zeros_like rand_like randn_like bernoulli exponential geometric normal uniform
"""


@rule(COSTLY, kind="elementwise")
@rule(FREE)
def elementwise(op: Operation) -> Value:
    """Tie the labels of all tensor arguments as they broadcast."""
    tensors = [t for t in op.tensors() if t.ndim] or [none(op.shape)]
    merged = reduce(lambda a, b: meet(op, a, b), tensors)
    return _aligned(merged, op.shape)


@rule("prelu", kind="elementwise")
def prelu(op: Operation) -> Value:
    """One slope for all channels, or one for each along dimension 1."""
    labels = op.labels("self" if "self" in op.args else "input")
    slopes = op.labels("weight").reshape(-1)
    if slopes.numel() > 1:
        channels = vector(labels, 1)
        if channels is None:
            return op.pin_all("prelu on units that are not dimension 1")
        op.tie(slopes, channels)
    return labels


@rule(CONSTANT)
def constant(op: Operation) -> Value:
    """Made in ``forward``: belongs to no unit; whether its size follows a removal, the proof finds out."""
    return none(op.shape)


def meet(op: Operation, a: Tensor, b: Tensor) -> Tensor:
    """Tie two label tensors that are broadcast against each other; return the labels of the result."""
    shape = tuple(np.broadcast_shapes(a.shape, b.shape))
    a, b = _aligned(a, shape), _aligned(b, shape)
    one, other = compact(a), compact(b)
    if one.numel() == 1 and other.numel() > 1:
        return _single_meets(op, one, b)
    if other.numel() == 1 and one.numel() > 1:
        return _single_meets(op, other, a)
    if one.numel() > 1 and set(varying(a)).isdisjoint(varying(b)):
        reason = f"{op.name} combines units along different dimensions"
        op.pin(a, reason)
        op.pin(b, reason)
    else:
        op.tie(a, b)
    return tidy(spread(torch.where(one >= 0, one, other), shape))


def _single_meets(op: Operation, single: Tensor, labels: Tensor) -> Tensor:
    """One label for a whole tensor meets many: a channel of its own that is broadcast, or a tensor nobody knows."""
    if int(single) in op.atoms.opaque:
        op.tie(single, labels)
    else:
        op.pin(single, f"it is broadcast over other channels by {op.name}")
    return labels


def _aligned(labels: Tensor, shape: tuple[int, ...]) -> Tensor:
    missing = len(shape) - labels.ndim
    return spread(compact(labels).reshape([1] * missing + list(compact(labels).shape)), shape)
