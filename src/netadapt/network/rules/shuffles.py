"""Operations that copy elements to new places: flips, rolls, repetitions, pixel and channel shuffles.

They run on labels without the dimensions that are constant, so that no label tensor of a big activation is made. Where
nothing is tied, the proof finds out whether a removal of units is followed.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from netadapt.network import labels as L
from netadapt.network.operation import Operation, Value
from netadapt.network.rules.registry import rule


@rule("flip roll", kind="other")
def turned(op: Operation) -> Value:
    """Give the same dimensions in another order of places."""
    labels = op.labels("self")
    if not op.args["dims"]:  # all dimensions as one
        return op.pin_all(f"{op.name} runs over all dimensions as one")
    target: Any = op.node.target
    turned: Tensor = target(L.compact(labels), *op.node.args[1:], **op.node.kwargs)
    return L.spread(L.tidy(turned), op.shape)


@rule("repeat tile", kind="other")
def repeated(op: Operation) -> Value:
    """Put copies beside each other; along units all copies of one go together, since they are the same atom."""
    labels = op.labels("self")
    times = list(op.args["repeats" if op.name == "repeat" else "dims"])
    times = [1] * (labels.ndim - len(times)) + times
    small = L.compact(labels).reshape([1] * (len(times) - labels.ndim) + list(L.compact(labels).shape))
    along = [n if size > 1 else 1 for n, size in zip(times, small.shape, strict=True)]
    return L.spread(small.repeat(along), op.shape)


@rule("repeat_interleave", kind="other")
def repeated_each(op: Operation) -> Value:
    """Put the copies of each element beside it; all copies of a unit go together, since they are the same atom."""
    labels, dim, times = op.labels("self"), op.args.get("dim"), op.args.get("repeats")
    if dim is None or not isinstance(times, int):
        return op.pin_all("repeat_interleave over all dimensions, or by numbers that are not the same everywhere")
    small = L.compact(labels)
    return L.spread(small.repeat_interleave(times, dim) if small.shape[dim] > 1 else small, op.shape)


@rule("pixel_shuffle", kind="other")
def pixel_shuffled(op: Operation) -> Value:
    """Let the channels behind one channel of the result go together; the first stands for all of them."""
    labels, square = op.labels("self"), int(op.args["upscale_factor"]) ** 2
    channels = L.vector(labels, labels.ndim - 3)
    if channels is None:
        return op.pin_all(f"{op.name} on units that are not its channels")
    behind = channels.reshape(-1, square)
    op.tie(behind, behind[:, :1])
    return L.along(behind[:, 0], labels.ndim - 3, op.shape)


@rule("pixel_unshuffle", kind="other")
def pixel_unshuffled(op: Operation) -> Value:
    """Every channel becomes several, which go together."""
    labels, square = op.labels("self"), int(op.args["downscale_factor"]) ** 2
    channels = L.vector(labels, labels.ndim - 3)
    if channels is None:
        return op.pin_all(f"{op.name} on units that are not its channels")
    return L.along(channels.repeat_interleave(square), labels.ndim - 3, op.shape)


@rule("channel_shuffle", kind="other")
def channels_shuffled(op: Operation) -> Value:
    """All groups keep the same local units, so that they stay equally long."""
    channels = L.vector(op.labels("self"), 1)
    if channels is None:
        return op.pin_all(f"{op.name} on units that are not dimension 1")
    local = channels.reshape(int(op.args["groups"]), -1)
    op.tie(local, local[:1])
    return L.along(local.t().reshape(-1), 1, op.shape)
