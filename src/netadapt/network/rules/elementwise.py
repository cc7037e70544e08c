"""Operations that work on each element: what meets is tied."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch
from torch import Tensor, fx

from netadapt.network.labels import compact, none, spread, tidy, varying, vector
from netadapt.network.operation import Operation, Parameter, Value, is_in_place, operation_name
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
VIEWS = """
    slice select narrow view reshape permute transpose unsqueeze squeeze diagonal chunk split unbind getitem
"""
CONSTANT = """
    _assert_tensor_metadata _assert_scalar _assert_async sym_constrain_range_for_size arange empty full linspace
    ones rand randn scalar_tensor zeros eye empty_like full_like new_empty new_full new_ones new_zeros ones_like
    zeros_like rand_like randn_like bernoulli exponential geometric normal uniform
"""


@rule(COSTLY, kind="elementwise")
def elementwise(op: Operation) -> Value:
    """Tie the labels of all tensor arguments as they broadcast."""
    values = op.operands()
    if (weight := _computed_weight(op, values)) is not None:
        return weight
    tensors = [t for t in values if isinstance(t, Tensor) and t.ndim]
    merged = reduce(lambda a, b: meet(op, a, b), tensors, none(op.shape))
    for parameter in values:
        if isinstance(parameter, Parameter) and parameter.shape:
            merged = add_parameter(op, merged, parameter)
    return _aligned(merged, op.shape)


@rule(FREE)
def unchanged(op: Operation) -> Value:
    """Give the same elements in another type or place; parameters stay parameters."""
    values = op.operands()
    return values[0] if isinstance(values[0], Parameter) and values[0].shape == op.shape else elementwise(op)


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
    if _filled_in_parts(op.node):
        return op.atoms.unknown(op.shape, "it is written into a part of a tensor made in forward", where=op.where)
    return none(op.shape)


def _filled_in_parts(node: fx.Node) -> bool:
    """Tell whether something is written into a view of a tensor: which channels those are is not followed."""
    views = [user for user in node.users if operation_name(user) in VIEWS.split()]
    return any(_filled_in_parts(view) or any(is_in_place(user) for user in view.users) for view in views)


def meet(op: Operation, a: Tensor, b: Tensor) -> Tensor:
    """Tie two label tensors that are broadcast against each other; return the labels of the result."""
    shape = tuple(np.broadcast_shapes(a.shape, b.shape))
    a, b = _aligned(a, shape), _aligned(b, shape)
    one, other = compact(a), compact(b)
    if one.numel() == 1 and other.numel() > 1:
        return _single_meets(op, one, b)
    if other.numel() == 1 and one.numel() > 1:
        return _single_meets(op, other, a)
    left, right = set(varying(a)), set(varying(b))
    if one.numel() > 1 and left.isdisjoint(right):
        reason = f"{op.name} combines units along different dimensions"
        op.pin(a, reason)
        op.pin(b, reason)
    elif right < left:
        op.atoms.meet(a, b)
    elif left < right:
        op.atoms.meet(b, a)
    else:
        op.tie(a, b)
    return tidy(spread(torch.where(one >= 0, one, other), shape))


def add_parameter(op: Operation, labels: Tensor, parameter: Parameter) -> Tensor:
    """Tie each axis of a parameter or buffer to the units along the same dimension; return the labels of the result."""
    shape = tuple(np.broadcast_shapes(labels.shape, parameter.shape))
    labels, skip = _aligned(labels, shape), len(shape) - len(parameter.shape)
    changing = set(varying(labels))
    if len(parameter.long) < 2 or changing.isdisjoint(dim + skip for dim in parameter.long):
        return meet(op, labels, op.as_labels(parameter))
    shared = [dim for dim in parameter.long if dim + skip in changing]
    if len(shared) > 1:  # only one of them can shrink: whole heads, say, but not their dimension
        reason = f"{parameter.name} has two axes along its units"
        labels = spread(op.settle(labels, [dim + skip for dim in shared[1:]], reason), shape)
    for dim in parameter.long:
        atoms = op.axis(parameter, dim)
        if dim != shared[0]:
            op.pin(atoms, f"axis {parameter.axes[dim]} of {parameter.name} meets no units in {op.name}")
        elif len(varying(labels)) > 1:
            op.atoms.meet(labels, _placed(atoms, dim + skip, len(shape)))
        else:
            op.tie(labels, _placed(atoms, dim + skip, len(shape)))
    return labels


def _computed_weight(op: Operation, values: Sequence[Value]) -> Parameter | None:
    """Return the weight that the result still is: scaled, say, by another one that has a number for each output."""
    if any(not isinstance(value, Parameter) and bool((compact(value) >= 0).any()) for value in values):
        return None  # it meets units of the network: a table of positions, say
    parameters = sorted((v for v in values if isinstance(v, Parameter)), key=lambda v: -len(v.long))
    if not parameters or not parameters[0].long or parameters[0].shape != op.shape:
        return None
    weight, *others = parameters
    pairs = [(v, dim, dim + len(op.shape) - len(v.shape)) for v in others for dim in v.long]
    if any(weight.axes[there] is None for _, _, there in pairs):
        return None
    for other, dim, there in pairs:
        op.tie(op.axis(other, dim), op.axis(weight, there))
    return weight


def _placed(atoms: Tensor, dim: int, rank: int) -> Tensor:
    return atoms.reshape([-1 if d == dim else 1 for d in range(rank)])


def _single_meets(op: Operation, single: Tensor, labels: Tensor) -> Tensor:
    """One label for a whole tensor meets many: a channel of its own that is broadcast, or a tensor nobody knows."""
    if not op.opaque(single):
        op.pin(single, f"it is broadcast over other channels by {op.name}")
        return labels
    op.tie(single, labels)
    return spread(single, labels.shape)  # all of it stays, so that nobody need ask which dimension it lies along


def _aligned(labels: Tensor, shape: tuple[int, ...]) -> Tensor:
    missing = len(shape) - labels.ndim
    return spread(compact(labels).reshape([1] * missing + list(compact(labels).shape)), shape)
