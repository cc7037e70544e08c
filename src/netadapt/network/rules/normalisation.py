"""Normalisations: per channel they are exact; over channels each changes the values of all others (`Operation.mix`)."""

from __future__ import annotations

from torch import Tensor

from netadapt.network.labels import spread, varying, vector
from netadapt.network.operation import Operation, Parameter, Value
from netadapt.network.rules.elementwise import add_parameter, meet
from netadapt.network.rules.registry import rule


def _tie_channels(op: Operation, channels: Tensor) -> None:
    for key in ("weight", "bias", "running_mean", "running_var"):
        value = op.value(key)
        if isinstance(value, Parameter):
            op.tie(op.axis(value, 0), channels)
        elif isinstance(value, Tensor):
            op.tie(value.reshape(-1), channels)


@rule("batch_norm instance_norm", kind="norm")
def per_channel(op: Operation) -> Value:
    """Statistics of one channel at a time."""
    value = op.value("input")
    if isinstance(value, Parameter) and len(value.long) > 1:
        return _standardised(op, value)
    labels = op.labels("input")
    channels = vector(labels, 1)
    if channels is None:
        return op.pin_all(f"{op.name} on units that are not dimension 1")
    _tie_channels(op, channels)
    return labels


def _standardised(op: Operation, weight: Parameter) -> Value:
    """Follow a weight that is normalised in forward, output by output: its inputs change each other."""
    op.mix_axes(weight, [dim for dim in weight.long if dim != 1], f"{op.name} standardises the weight over it")
    _tie_channels(op, op.axis(weight, 1))
    return weight


@rule("group_norm", kind="norm")
def group_norm(op: Operation) -> Value:
    """Statistics of several channels at a time: exact where these go together, so that a unit is a whole group."""
    labels, count = op.labels("input"), int(op.args["num_groups"])
    channels = vector(labels, 1)
    reason = f"{op.name} mixes the statistics of all channels: removing one would change the others"
    if channels is None or op.opaque(labels):
        return op.pin_all(reason)
    if count == 1 < len(channels):
        if not op.mix(labels, reason):
            return op.pin_all(reason)
    else:
        groups = channels.reshape(count, -1)
        op.tie(groups, groups[:, :1])
    _tie_channels(op, channels)
    return labels


@rule("layer_norm rms_norm", kind="norm")
def layer_norm(op: Operation) -> Value:
    """Exact only where no units lie along the normalised dimensions."""
    labels = op.labels("input")
    count = len(op.args["normalized_shape"])
    over = set(range(labels.ndim - count, labels.ndim))
    if not over.issuperset(varying(labels)):  # units along other dimensions (heads) take all that is normalised along
        return spread(op.settle(labels, over, f"{op.name} runs over its units"), op.shape)
    if not varying(labels) and not op.opaque(labels):
        return labels
    reason = f"{op.name} mixes the statistics of all channels: removing one would change the others"
    if op.opaque(labels) or not op.mix(labels, reason):
        return op.pin_all(reason)
    for value in (op.value("weight"), op.value("bias")):
        if isinstance(value, Parameter):
            labels = add_parameter(op, labels, value)
        elif isinstance(value, Tensor):
            labels = meet(op, labels, value)
    return labels
