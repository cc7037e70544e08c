"""Normalisations: per channel they are exact; over channels every unit changes all others, so they pin."""

from __future__ import annotations

from torch import Tensor

from netadapt.network.labels import spread, varying, vector
from netadapt.network.operation import Operation, Parameter, Value
from netadapt.network.rules.registry import rule


def _tie_channels(op: Operation, labels: Tensor) -> Value:
    channels = vector(labels, 1)
    if channels is None:
        return op.pin_all(f"{op.name} on units that are not dimension 1")
    for key in ("weight", "bias", "running_mean", "running_var"):
        value = op.value(key)
        if isinstance(value, Parameter):
            op.tie(op.axis(value, 0), channels)
        elif isinstance(value, Tensor):
            op.tie(value.reshape(-1), channels)
    return labels


@rule("batch_norm instance_norm", kind="norm")
def per_channel(op: Operation) -> Value:
    """Statistics of one channel at a time."""
    return _tie_channels(op, op.labels("input"))


@rule("group_norm", kind="norm")
def group_norm(op: Operation) -> Value:
    """Statistics of several channels at a time: exact where these go together, so that a unit is a whole group."""
    labels, count = op.labels("input"), int(op.args["num_groups"])
    channels = vector(labels, 1)
    if channels is None or count == 1 < len(channels) or op.opaque(labels):
        return op.pin_all(f"{op.name} mixes the statistics of all channels: removing one would change the others")
    groups = channels.reshape(count, -1)
    op.tie(groups, groups[:, :1])
    return _tie_channels(op, labels)


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
    return op.pin_all(f"{op.name} mixes the statistics of all channels: removing one would change the others")
