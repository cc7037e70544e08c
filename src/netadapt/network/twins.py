"""Twins: copies of units, with which a removal leaves statistics as they were; so groups are proved that are not exact.

Where a norm takes its statistics over the units of a group, the shrunk network cannot equal the masked one: its norm
sees other numbers. But the mean, the variance or the maximum of a list do not change when every number stands in it
several times. So the units of the group are made copies of a few, equally many of each *class*, and one of each class
is kept. If the ties are right the copies behave alike, every statistic stays, and both networks agree to the last
digits; what is no such statistic (a sum, a softmax over channels) does not, and pins. Called by `prove.py`.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils.hooks import RemovableHandle

from netadapt.errors import ModelError
from netadapt.network import surgery
from netadapt.network.structure import within

if TYPE_CHECKING:
    from netadapt.network.network import Network

Ints = NDArray[np.int64]


FEWEST_CLASSES = 3  # two numbers are normalised to plus and minus one, whatever they are


def classes_of(name: str, width: int) -> Ints:
    """Return the class of every unit, ``(width,)``: as many classes as possible, all of equally many units.

    Args:
        name: of the group; other groups draw other classes.
        width: number of units; the classes of a prime number of units are one.
    """
    copies = next(p for p in range(2, width + 1) if width % p == 0)
    return np.random.default_rng([zlib.crc32(name.encode()), width]).permutation(np.arange(width) % (width // copies))


def one_of_each(classes: Ints, *, last: bool) -> tuple[int, ...]:
    """Return the first or the last unit of each class, ascending; no unit is kept both times."""
    units = np.arange(len(classes))[:: -1 if last else 1]
    return tuple(sorted(units[np.unique(classes[units], return_index=True)[1]].tolist()))


@contextlib.contextmanager
def twinned(network: Network, module: nn.Module, classes: Mapping[str, Ints]) -> Iterator[None]:
    """Let the units of a class be copies of its first unit for a while, in every tensor of ``module``.

    Args:
        network: the traced network.
        module: the original, or a copy of it with other weights.
        classes: of the units of some groups.
    """
    tensors, own = surgery.tensors_of(module), dict[str, Tensor]()
    try:
        for group in network.groups:
            for use in group.axes if group.name in classes else ():
                tensor = tensors[use.tensor]
                own.setdefault(use.tensor, tensor.data)
                source = np.arange(tensor.shape[use.axis])
                source[use.indices] = use.indices[_first_of_class(classes[group.name])]
                tensor.data = tensor.data.index_select(use.axis, torch.from_numpy(source).to(tensor.device))
        yield
    finally:
        for name, data in own.items():
            tensors[name].data = data


def _first_of_class(classes: Ints) -> Ints:
    """Return for every unit the first one of its class."""
    first: Ints = np.unique(classes, return_index=True)[1][classes]
    return first


@contextlib.contextmanager
def masked(network: Network, module: nn.Module, kept: surgery.Kept, *, sparing: bool = False) -> Iterator[None]:
    """Let consumers ignore the units that are not ``kept`` for a while, those with standardised weights too.

    A zero in a weight that is standardised in forward changes its other entries; there the input is masked instead.

    Args:
        network: the traced network.
        module: the original, or a copy of it with other weights.
        kept: as in `surgery.shrink`.
        sparing: see `surgery.masked`.

    Raises:
        ModelError: such a weight belongs to a module whose input is not known to be what is summed over.
    """
    gone, hooks = surgery.staying(network, module, kept), []
    try:
        for group in network.groups:
            for use in group.axes:
                mask = gone.get(use.tensor, {}).get(use.axis)
                if use.role == "input" and use.tensor in network.standardised and mask is not None:
                    hooks += _mask_inputs(module, use.tensor, mask)
        blocks = surgery.gone_blocks(network, kept)
        skipped = {name for name in network.standardised if not within(name, blocks)}
        with surgery.masked(network, module, kept, skipped, sparing=sparing):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _mask_inputs(module: nn.Module, name: str, mask: NDArray[np.bool_]) -> list[RemovableHandle]:
    """Mask what goes into every layer that uses the weight ``name``."""
    weight = surgery.tensors_of(module)[name]
    owners = [part for part in module.modules() if any(own is weight for own in part._parameters.values())]
    return [_mask_input(owner, name, mask) for owner in owners]


def _mask_input(owner: nn.Module, name: str, mask: NDArray[np.bool_]) -> RemovableHandle:
    if not isinstance(owner, _ConvNd | nn.Linear):
        raise ModelError(f"the weight of {name} is computed in forward by a {type(owner).__name__}")
    groups = owner.groups if isinstance(owner, _ConvNd) and not isinstance(owner, _ConvTransposeNd) else 1
    factor = torch.from_numpy(np.tile(mask, groups)).double()
    space = len(owner.kernel_size) if isinstance(owner, _ConvNd) else 0

    def hook(_: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        x = args[0] if args else options["input"]
        x = x * factor.to(x).reshape(-1, *[1] * space)
        return ((x, *args[1:]), options) if args else (args, options | {"input": x})

    return owner.register_forward_pre_hook(hook, with_kwargs=True)
