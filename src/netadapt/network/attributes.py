"""Attributes that must follow when a module loses channels: torch.nn modules, and a registry for others.

`surgery.py` calls the fixer of every module after its tensors were sliced. A module that keeps its sizes in attributes
of its own (`self.dim`, `self.pad_before`) registers a fixer next to its class:

    register_attribute_fixer(MyBlock, lambda change: {"dim": change.shape("weight")[0]}, attributes=("dim",))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm

from netadapt.models.resnet_cifar import ZeroPadShortcut
from netadapt.network.structure import LinearForm

Attributes = Mapping[str, int | tuple[int, ...]]
Size = tuple[str, int]  # an attribute, and which of its sizes: 0 where it is a plain number


@dataclass(frozen=True)
class Change:
    """What happened to one module.

    Attributes:
        module: with its tensors already sliced; its attributes still tell the old sizes.
        original: the same module in the original network.
        inputs, outputs: which channels (dimension 1) of its input and output in the original network are kept;
            only for classes registered with ``channels=True``.
    """

    module: nn.Module
    original: nn.Module
    inputs: NDArray[np.bool_] | None = None
    outputs: NDArray[np.bool_] | None = None

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the new shape of one of the module's own parameters or buffers."""
        return tuple(getattr(self.module, name).shape)


Fixer = Callable[[Change], Attributes]


@dataclass(frozen=True)
class _Entry:
    fixer: Fixer
    attributes: frozenset[str]
    channels: bool


_REGISTRY: dict[type[nn.Module], _Entry] = {}


def register_attribute_fixer(
    cls: type[nn.Module], fixer: Fixer, *, attributes: Sequence[str], channels: bool = False
) -> None:
    """Tell how the integer attributes of a module follow from its shrunk tensors or activations.

    Args:
        cls: the module class; subclasses without an entry of their own use it too.
        fixer: from a `Change` to the new values, ints or tuples of ints.
        attributes: every name that the fixer may return; a saved architecture may set these and no others.
        channels: whether the fixer needs ``change.inputs`` and ``change.outputs``.
    """
    _REGISTRY[cls] = _Entry(fixer, frozenset(attributes), channels)


def _entry(module: nn.Module) -> _Entry | None:
    return next((_REGISTRY[cls] for cls in type(module).__mro__ if cls in _REGISTRY), None)


def is_known(module: nn.Module) -> bool:
    """Tell whether the attributes of a module are settled: its class is torch's own, or somebody registered a fixer."""
    return _entry(module) is not None or type(module).__module__.startswith("torch.nn.")


def sizes_in(value: object) -> tuple[int, ...]:
    """Return the sizes that an attribute holds: one whole number, or a tuple or list of them; none if it is no size."""
    items = [value] if type(value) is int else list(value) if isinstance(value, tuple | list) else []
    return tuple(items) if all(type(item) is int and item > 0 for item in items) else ()


def may_follow(module: nn.Module, key: str) -> bool:
    """Tell whether an attribute is a size, or several, that may have followed a removal (see `followers.py`)."""
    return not is_known(module) and max(sizes_in(vars(module).get(key)), default=1) > 1 and not key.startswith("_")


def followed(module: nn.Module, forms: Mapping[Size, LinearForm], widths: NDArray[np.int64]) -> Attributes:
    """Return the values of a module's attributes at other widths.

    Args:
        module: of the original network.
        forms: what its sizes follow.
        widths: ``(groups,)``.
    """
    sizes = {key: list(sizes_in(getattr(module, key))) for key, _ in forms}
    for (key, place), form in forms.items():
        sizes[key][place] = int(form(widths))
    return {k: v[0] if isinstance(getattr(module, k), int) else tuple(v) for k, v in sizes.items()}


def needs_channels(module: nn.Module) -> bool:
    """Tell whether the module's fixer wants to know the channels of its activations."""
    entry = _entry(module)
    return entry is not None and entry.channels


def allowed_attributes(module: nn.Module) -> frozenset[str]:
    """Return the attributes that a saved architecture may set on ``module``."""
    entry = _entry(module)
    return entry.attributes if entry else frozenset()


def changed_attributes(change: Change) -> dict[str, int | tuple[int, ...]]:
    """Return the attributes of ``change.module`` whose values must change, with their new values."""
    entry = _entry(change.module)
    if entry is None:
        return {}
    values = entry.fixer(change)
    extra = set(values) - entry.attributes
    if extra:
        raise ValueError(f"the fixer of {type(change.module).__name__} set undeclared attributes {sorted(extra)}")
    return {k: v for k, v in values.items() if getattr(change.module, k) != v}


def _convolution(change: Change) -> Attributes:
    """Dense convolutions follow their weight; a depthwise one keeps one group per channel, a grouped one its groups."""
    original, weight = change.original, change.shape("weight")
    assert isinstance(original, _ConvNd)
    groups = original.groups
    if isinstance(original, _ConvTransposeNd):
        groups = weight[0] if groups == original.in_channels > 1 else groups
        return {"in_channels": weight[0], "out_channels": weight[1] * groups, "groups": groups}
    if groups == original.in_channels > 1:
        groups = weight[0] * original.in_channels // original.out_channels
    return {"in_channels": weight[1] * groups, "out_channels": weight[0], "groups": groups}


def _norm(change: Change) -> Attributes:
    """Follow the norm's own tensors; an instance norm without any checks its size all the same."""
    for name in ("weight", "running_mean"):
        if getattr(change.module, name, None) is not None:
            return {"num_features": change.shape(name)[0]}
    return {} if change.outputs is None else {"num_features": int(change.outputs.sum())}


def _group_norm(change: Change) -> Attributes:
    """Divide what remains into groups of the same size, since whole groups were removed."""
    original = change.original
    if not isinstance(original, nn.GroupNorm) or change.inputs is None:
        return {}
    channels = int(change.inputs.sum())
    return {
        "num_channels": channels,
        "num_groups": max(1, channels * original.num_groups // original.num_channels),  # one of all stays one
    }


def _layer_norm(change: Change) -> Attributes:
    """Follow the scale; a norm without one is told by its attribute alone and stays."""
    return {} if change.module.weight is None else {"normalized_shape": change.shape("weight")}


def _zero_pad_shortcut(change: Change) -> Attributes:
    """Let padded channels go with the channels of the residual sum that they are added to."""
    original, outputs = change.original, change.outputs
    if not isinstance(original, ZeroPadShortcut) or outputs is None:
        return {}
    after = len(outputs) - original.pad_after
    return {"pad_before": int(outputs[: original.pad_before].sum()), "pad_after": int(outputs[after:].sum())}


def _attention(change: Change) -> Attributes:
    """Heads keep their size, so that their number follows from the rows of the projections."""
    original = change.original
    assert isinstance(original, nn.MultiheadAttention)
    if original.in_proj_weight is not None:
        rows, features = change.shape("in_proj_weight")
        return {"num_heads": rows // (3 * original.head_dim), "embed_dim": features, "kdim": features, "vdim": features}
    rows, features = change.shape("q_proj_weight")
    inputs = {"kdim": change.shape("k_proj_weight")[1], "vdim": change.shape("v_proj_weight")[1]}
    return {"num_heads": rows // original.head_dim, "embed_dim": features, **inputs}


def _recurrent(change: Change) -> Attributes:
    """Every hidden unit has a row for each gate."""
    assert isinstance(change.original, nn.RNNBase)
    rows, inputs = change.shape("weight_ih_l0")
    return {"input_size": inputs, "hidden_size": rows // {"LSTM": 4, "GRU": 3}.get(change.original.mode, 1)}


register_attribute_fixer(_ConvNd, _convolution, attributes=("in_channels", "out_channels", "groups"))
register_attribute_fixer(_NormBase, _norm, attributes=("num_features",))
register_attribute_fixer(_InstanceNorm, _norm, attributes=("num_features",), channels=True)
register_attribute_fixer(nn.LayerNorm, _layer_norm, attributes=("normalized_shape",))
register_attribute_fixer(nn.RMSNorm, _layer_norm, attributes=("normalized_shape",))
register_attribute_fixer(nn.GroupNorm, _group_norm, attributes=("num_channels", "num_groups"), channels=True)
register_attribute_fixer(
    nn.Linear,
    lambda change: {"in_features": change.shape("weight")[1], "out_features": change.shape("weight")[0]},
    attributes=("in_features", "out_features"),
)
register_attribute_fixer(
    nn.PReLU, lambda change: {"num_parameters": change.shape("weight")[0]}, attributes=("num_parameters",)
)
register_attribute_fixer(nn.MultiheadAttention, _attention, attributes=("num_heads", "embed_dim", "kdim", "vdim"))
register_attribute_fixer(
    nn.Embedding, lambda change: {"embedding_dim": change.shape("weight")[1]}, attributes=("embedding_dim",)
)
register_attribute_fixer(nn.RNNBase, _recurrent, attributes=("input_size", "hidden_size"))
register_attribute_fixer(ZeroPadShortcut, _zero_pad_shortcut, attributes=("pad_before", "pad_after"), channels=True)
