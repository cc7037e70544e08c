"""Reading at given places: embedding tables, and indexing by constants such as relative position bias tables."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from netadapt.network import labels as L
from netadapt.network.operation import Operation, Parameter, Value
from netadapt.network.rules.registry import rule


@rule("embedding", kind="other")
def embedding(op: Operation) -> Value:
    """Rows of a table: its columns are units, its rows stay."""
    table = op.value("weight")
    if not isinstance(table, Parameter):
        return op.pin_all("the table of embedding is computed in forward")
    op.pin(op.axis(table, 0), f"its rows are looked up by {op.name}")
    return L.along(op.axis(table, 1, "output"), len(op.shape) - 1, op.shape)


@rule("index index_select", kind="other")
def index(op: Operation) -> Value:
    """Pick entries along some dimensions, which therefore stay; the other dimensions carry their units on."""
    source = op.value("self")
    picked = op.value("indices") if op.name == "index" else [None] * int(op.args["dim"]) + [op.value("index")]
    dims = [dim for dim, item in enumerate(picked) if item is not None]
    if dims != list(range(dims[0], dims[-1] + 1)):
        return op.pin_all("index picks along dimensions that do not follow each other")
    rank = len(op.shape) - (len(source.shape) - len(dims))
    reason = f"its entries are picked by {op.name}"
    if isinstance(source, Parameter):
        for dim in dims:
            op.pin(op.axis(source, dim), reason)
        axes = (*source.axes[: dims[0]], *[None] * rank, *source.axes[dims[-1] + 1 :])
        return replace(source, shape=op.shape, axes=axes)
    return _picked(op, source, dims, rank, reason)


def _picked(op: Operation, labels: Tensor, dims: list[int], rank: int, reason: str) -> Tensor:
    small = op.settle(labels, dims, reason)
    if set(L.varying(labels)) and not L.varying(small):
        return op.atoms.unknown(op.shape, reason, where=op.where)
    shape = [*small.shape[: dims[0]], *[1] * rank, *small.shape[dims[-1] + 1 :]]
    return L.spread(small.reshape(shape), op.shape)
