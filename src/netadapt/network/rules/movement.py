"""Operations that only move data: the same operation is run on the labels."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from netadapt.network import labels as L
from netadapt.network.operation import Operation, Parameter, Value
from netadapt.network.rules.elementwise import elementwise, meet
from netadapt.network.rules.registry import rule

PADS = """
    pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d
    replication_pad3d
"""


def run(op: Operation) -> Value:
    """Run the operation itself on the labels of its arguments."""
    swap = {node: _swapped(op, op.env[node]) for node in op.node.all_input_nodes}
    args, kwargs = fx.node.map_arg((op.node.args, op.node.kwargs), lambda n: swap[n])
    result: Any = op.node.target(*args, **kwargs)  # type: ignore[operator]
    return [L.tidy(r) for r in result] if isinstance(result, list | tuple) else L.tidy(result)


def _swapped(op: Operation, value: Value) -> Value:
    if isinstance(value, list):
        return [op.as_labels(v) for v in value]
    return op.as_labels(value)


@rule("view reshape _unsafe_view flatten unflatten squeeze unsqueeze view_as reshape_as ravel")
def reshaped(op: Operation) -> Value:
    """Give new sizes in the same order; where units are spread over several dimensions, one of those shrinks."""
    value = op.value("self")
    if isinstance(value, Parameter) and (view := value.reshaped(op.shape)) is not None:
        for dim in [dim for dim in value.long if value.axes[dim] not in view.axes]:
            op.pin(op.axis(value, dim), f"{op.name} folds it into another axis of {value.name}")
        return view
    result, layouts = L.reshape(op.as_labels(value), op.shape)
    op.atoms.splits += layouts
    return result


@rule("permute transpose t swapaxes swapdims movedim numpy_T matrix_H mT")
def permuted(op: Operation) -> Value:
    """Give a new order of dimensions; parameters stay parameters."""
    value = op.value("self")
    if isinstance(value, Parameter) and op.name in ("permute", "transpose", "t"):
        order = torch.empty([dim + 1 for dim in range(len(value.shape))])  # sizes that name the dimensions
        target: Any = op.node.target
        return value.permuted([size - 1 for size in target(order, *op.node.args[1:], **op.node.kwargs).shape])
    return run(op)


@rule("expand expand_as broadcast_to")
def expanded(op: Operation) -> Value:
    """Repeat without memory."""
    value = op.value("self")
    if isinstance(value, Parameter):
        own = [axis if size > 1 else None for axis, size in zip(value.axes, value.shape, strict=True)]
        return replace(value, shape=op.shape, axes=(*[None] * (len(op.shape) - len(own)), *own))
    return L.spread(L.compact(value), op.shape)


@rule("slice select narrow")
def sliced(op: Operation) -> Value:
    """Take a part along one dimension: free in batch and space; if its bounds follow units, the proof finds out."""
    value, dim = op.value("self"), op.args["dim"] % len(op.value("self").shape)
    if isinstance(value, Parameter) and not value.folded:
        return _parameter_slice(op, value, dim)
    labels = op.as_labels(value)
    whole = op.name == "slice" and op.shape == tuple(labels.shape)
    changing = L.varying(labels)
    if dim in changing and not whole:
        if len(changing) > 1:  # heads, say, each of which is cut alike
            op.settle(labels, [dim], f"{op.name} cuts channels at positions written in forward")
        else:
            _keep_phases(op, labels, dim)
    return run(op)


def _keep_phases(op: Operation, labels: Tensor, dim: int) -> None:
    """Tie units so that a cut into equal pieces, or every n-th unit, stays one after a removal."""
    size, part, step = labels.shape[dim], op.shape[dim] if op.name != "select" else 1, op.args.get("step", 1)
    start = op.args.get("start", op.args.get("index")) or 0
    units = L.compact(labels).movedim(dim, 0).flatten(1)
    if step > 1 and size % step == 0:
        blocks = units.reshape(size // step, step, -1)
        op.tie(blocks, blocks[:, :1])
    elif 1 < part < size and size % part == 0 and start % part == 0:
        equal = units.reshape(size // part, part, -1)
        op.tie(equal, equal[:1])


def _parameter_slice(op: Operation, value: Parameter, dim: int) -> Value:
    """Take a part of a parameter with several axes; whether its bounds follow a removal, the proof finds out."""
    if op.name != "select":
        start, step = op.args["start"] or 0, op.args.get("step", 1)
        if step == 1 or op.shape == value.shape:
            return value.narrowed(dim, start % max(value.shape[dim], 1) if start < 0 else start, op.shape[dim])
    op.pin(op.axis(value, dim), f"{op.name} cuts it at positions written in forward")
    axes = list(value.axes)
    axes[dim : dim + 1] = [] if op.name == "select" else [None]
    return replace(value, shape=op.shape, axes=tuple(axes))


def _parameter_pieces(op: Operation, value: Parameter, dim: int) -> Value:
    """Take a parameter apart; equal pieces stay equal."""
    if op.name == "unbind":
        op.pin(op.axis(value, dim), "unbind takes it apart")
        axes = value.axes[:dim] + value.axes[dim + 1 :]
        return [replace(value, shape=shape, axes=axes) for shape in op.shapes]
    sizes = [shape[dim] for shape in op.shapes]
    parts = [value.narrowed(dim, sum(sizes[:i]), size) for i, size in enumerate(sizes)]
    for part in parts[1:] if len(set(sizes)) == 1 else []:
        op.tie(op.axis(parts[0], dim), op.axis(part, dim))
    return parts


@rule("chunk split split_with_sizes tensor_split unbind unsafe_chunk unsafe_split")
def pieces(op: Operation) -> Value:
    """Equal pieces of the units stay equal: the i-th units of all pieces are tied; of others the proof decides."""
    value, dim = op.value("self"), op.args["dim"]
    if isinstance(value, Parameter) and not value.folded:
        return _parameter_pieces(op, value, dim % len(value.shape))
    labels = op.as_labels(value)
    if dim % labels.ndim not in L.varying(labels):
        return [
            L.spread(L.compact(labels).squeeze(dim) if op.name == "unbind" else L.compact(labels), shape)
            for shape in op.shapes
        ]
    parts: list[Tensor] = run(op)
    if op.name == "unbind":
        op.settle(labels, [dim], "unbind takes channels apart")
    elif len(L.varying(labels)) > 1 and len({tuple(part.shape) for part in parts}) > 1:
        op.settle(labels, [dim], f"{op.name} cuts channels into unequal pieces")
    elif len({tuple(part.shape) for part in parts}) == 1:
        for part in parts[1:]:
            op.tie(parts[0], part)
    return parts


@rule("cat concat concatenate", kind="other")
def concatenated(op: Operation) -> Value:
    """One behind the other, without materialising what is constant."""
    values = [v for v in op.value("tensors") if v.shape != (0,)]
    dim = int(op.args.get("dim", 0)) % len(values[0].shape)
    items = [_joined(op, v, dim) for v in values]
    if all(op.opaque(t) for t in items):  # one behind the other they would look like units
        for item in items[1:]:
            op.tie(items[0].reshape(-1)[:1], item.reshape(-1)[:1])
        return L.spread(L.compact(items[0]), op.shape)
    across = [t for t in items if set(L.varying(t)) - {dim}]
    if across and not any(dim in L.varying(t) for t in items):  # tokens behind tokens: the units meet
        merged = reduce(lambda a, b: meet(op, a, b), (L.compact(t) for t in items))
        return L.spread(merged, op.shape)
    shape = list(np.broadcast_shapes(*(_without(L.compact(t).shape, dim) for t in items)))
    spread = [L.spread(L.compact(t), [t.shape[d] if d == dim else s for d, s in enumerate(shape)]) for t in items]
    return L.spread(L.tidy(torch.cat(spread, dim)), op.shape)


@rule("stack", kind="other")
def stacked(op: Operation) -> Value:
    """Along a new dimension; all items keep the same units, so they are tied."""
    items = [op.as_labels(v) for v in op.value("tensors")]
    for item in items[1:]:
        op.tie(items[0], item)
    return L.spread(L.compact(items[0]).unsqueeze(op.args["dim"]), op.shape)


def _joined(op: Operation, value: Value, dim: int) -> Tensor:
    """Return the labels of one item; a parameter with units elsewhere, such as extra tokens, keeps all of ``dim``."""
    if isinstance(value, Parameter) and dim in value.long and len(value.long) > 1:
        return op.fixed_along(value, [dim], f"{op.name} puts it behind other tensors")
    return op.as_labels(value)


def _without(shape: torch.Size, dim: int) -> list[int]:
    return [1 if d == dim else size for d, size in enumerate(shape)]


@rule(PADS, kind="other")
def padded(op: Operation) -> Value:
    """Pad: space is free; padded channels are new atoms that live on no parameter."""
    labels = op.labels("self" if "self" in op.args else "input")
    amounts = list(op.args["pad"] if "pad" in op.args else op.args["padding"])
    small = L.compact(labels)
    for i in range(len(amounts) // 2):
        dim = labels.ndim - 1 - i
        before, after = amounts[2 * i : 2 * i + 2]
        if dim not in L.varying(labels) or (before, after) == (0, 0):
            continue
        if min(before, after) < 0 or op.args.get("mode", "constant") != "constant" or "tion_pad" in op.name:
            return op.pin_all("padding mirrors or crops channels")
        shape = list(small.shape)
        parts = []
        for size in (before, after):
            shape[dim] = size
            parts.append(L.along(op.atoms.fresh(size), dim, shape))
        small = torch.cat([parts[0], small, parts[1]], dim)
    return L.spread(small, op.shape)


@rule("copy", kind="other")
def written(op: Operation) -> Value:
    """Tie what is written to what was there; into a tensor made in ``forward`` it is not followed."""
    here, source = op.labels("self"), op.labels("src")
    if bool((L.compact(here) < 0).any()):
        op.pin(source, "it is written into a part of a tensor made in forward")
    return elementwise(op)
