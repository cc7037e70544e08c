"""Export once, then slice: the ONNX file of a network at other widths from one export of the original.

A full export costs 0.3 s or more; slicing the initializers of a template costs milliseconds. The template is only
trusted after a sliced file was seen to compute what the shrunk network does. Used by `platforms/runtimes/`.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from netadapt.errors import PlatformError
from netadapt.export import graph
from netadapt.export.onnx import FlatNetwork, check, flat_copy, named_proto
from netadapt.network.structure import AxisUse, ChannelGroup

if TYPE_CHECKING:
    from netadapt.network import Network

Kept = Mapping[str, Sequence[int]]


class NotSliceable(PlatformError):
    """Some constant of the exported graph depends on the widths: each candidate needs an export of its own."""


@dataclass(frozen=True)
class _Use:
    """One axis of an initializer that the units of a group live on."""

    group: str
    axis: int
    indices: NDArray[np.int64]


class SlicingTemplate:
    """The export of a network with its parameters' names, whose initializers can be sliced.

    Args:
        network: supplies ``model``, ``example_inputs`` and ``groups``; `verify` also needs ``shrink``.

    Raises:
        NotSliceable: the network cannot be exported with its names, or a group's axes are not found again.
    """

    def __init__(self, network: Network) -> None:
        try:
            flat = flat_copy(network.model, network.example_inputs)
            self._plain, self._exported = _export(flat_copy(network.model, network.example_inputs))
        except Exception as error:
            raise NotSliceable(f"no export with parameter names: {type(error).__name__}: {error}") from error
        self._uses = _find_uses(network.groups, _aliases(flat.network), self._exported)
        self._fill(flat.network)

    def _fill(self, weights_of: nn.Module) -> None:
        """Prepare the graph with the weights of a module of the original widths."""
        values = {name: tensor.detach().numpy() for name, tensor in _tensors(weights_of).items()}
        arrays = {name: values.get(name, array) for name, array in self._exported.items()}
        proto = _copied(self._plain)
        self._arrays = graph.deployment_form(proto, arrays)
        graph.set_initializers(proto, {n: array for n, array in self._arrays.items() if n not in self._uses})
        self._bare = proto
        self._depthwise = {node.output[0] for node in proto.graph.node if self._is_depthwise(node)}

    def _is_depthwise(self, node: onnx.NodeProto) -> bool:
        """Tell whether ``node`` is a convolution that loses a group with each input channel."""
        if node.op_type != "Conv" or node.input[1] not in self._uses:
            return False
        return _split(node) > 1 and self._arrays[node.input[1]].shape[1] == 1

    def slice(self, kept: Kept) -> onnx.ModelProto:
        """Return the graph with only the units in ``kept``.

        Args:
            kept: unit indices by group name; groups not named keep everything.
        """
        proto = _copied(self._bare)
        arrays = {name: self._sliced(name, kept) for name in self._uses if name in self._arrays}
        proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
        for node in proto.graph.node:
            if node.output[0] in self._depthwise:
                weight = node.input[1]
                _set_split(node, _split(node) * arrays[weight].shape[0] // self._arrays[weight].shape[0])
        return proto

    def _sliced(self, name: str, kept: Kept) -> NDArray[Any]:
        array = self._arrays[name]
        gone: dict[int, list[NDArray[np.int64]]] = defaultdict(list)
        for use in self._uses[name]:
            if use.group in kept:
                mask = np.ones(len(use.indices), dtype=bool)
                mask[np.asarray(kept[use.group], dtype=np.int64)] = False
                gone[use.axis].append(use.indices[mask].ravel())
        for axis, removed in gone.items():
            keep = np.ones(array.shape[axis], dtype=bool)
            keep[np.concatenate(removed)] = False
            array = np.compress(keep, array, axis=axis)
        return np.ascontiguousarray(array)

    def verify(self, network: Network) -> float:
        """Cut all groups at once, each differently, and compare the sliced file with the shrunk network by values.

        Done with random weights: the network's own may be such that an error does not reach the output.

        Returns:
            The largest difference relative to the largest output.

        Raises:
            NotSliceable: they differ, or the sliced file does not even load.
        """
        whole = network.shrink({})
        _draw(_tensors(whole))
        kept = {group.name: range(_test_width(group, i)) for i, group in enumerate(network.groups)}
        flat = flat_copy(network.shrink(kept, weights_of=whole), network.example_inputs)
        with torch.no_grad():
            expected = [output.numpy() for output in flat(*flat.tensors)]
        trial = copy.copy(self)
        trial._fill(whole.cpu())
        try:
            return check(trial.slice(kept), flat, expected)
        except Exception as error:
            raise NotSliceable(f"a sliced export does not equal the shrunk network: {error}") from error


def _test_width(group: ChannelGroup, position: int) -> int:
    """Return a width between 0.4 and 0.8 of the original that differs from one group to the next."""
    share = 0.4 + 0.1 * (position % 5)
    width = round(group.width * share / group.multiple) * group.multiple
    return min(group.width, max(group.minimum, group.multiple, width))


def _copied(proto: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    return copied


def _split(node: onnx.NodeProto) -> int:
    """Return the number of groups of a convolution."""
    return next((a.i for a in node.attribute if a.name == "group"), 1)


def _set_split(node: onnx.NodeProto, groups: int) -> None:
    next(a for a in node.attribute if a.name == "group").i = groups


def _export(flat: FlatNetwork) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
    """Export with names; return the graph without initializers, and the initializers.

    The exporter merges tensors of equal content (all fresh batch norms, say), so ``flat`` is given random ones.
    """
    _draw(_tensors(flat.network))
    proto = named_proto(flat)
    arrays = graph.initializers(proto)
    del proto.graph.initializer[:]
    return proto, arrays


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return all parameters and buffers under all their names."""
    named = dict(model.named_parameters(remove_duplicate=False))
    return named | dict(model.named_buffers(remove_duplicate=False))


def _draw(tensors: Mapping[str, torch.Tensor]) -> None:
    """Fill in place with random values that keep activations near 1 when a third of all units is cut."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in tensors.items():
            if not tensor.is_floating_point():
                continue
            normal = torch.randn(tensor.shape, generator=random)
            if tensor.ndim > 1:
                tensor.copy_(normal * (3.0 / max(1, tensor[0].numel())) ** 0.5)
            elif name.endswith(("weight", "running_var")):
                tensor.copy_(1 + 0.2 * normal.clamp(-3, 3))
            else:
                tensor.copy_(0.2 * normal)


def _aliases(model: nn.Module) -> dict[str, str]:
    """Return for every name of a parameter or buffer the first name of the same tensor."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in _tensors(model).items()}


def _find_uses(
    groups: Sequence[ChannelGroup], aliases: Mapping[str, str], arrays: Mapping[str, NDArray[Any]]
) -> dict[str, list[_Use]]:
    """Return the sliceable axes of each initializer.

    Raises:
        NotSliceable: a group has an axis on a tensor of weights that the exported graph does not hold by name.
    """
    found = {aliases[name]: name for name in arrays if name in aliases}
    uses: dict[str, list[_Use]] = defaultdict(list)
    seen = set()
    for group in groups:
        for axis in group.axes:
            owner = aliases.get(axis.tensor, axis.tensor)
            key = (owner, axis.axis, axis.indices.tobytes())
            if key in seen:
                continue
            seen.add(key)
            if owner in found:
                uses[found[owner]].append(_Use(group.name, axis.axis, axis.indices))
            elif _matters(axis):
                raise NotSliceable(f"the exported graph has no tensor named {axis.tensor}.")
    return dict(uses)


def _matters(axis: AxisUse) -> bool:
    """Tell whether a tensor must be in the graph: weights must, buffers that eval mode never reads need not."""
    return axis.role != "elementwise"
