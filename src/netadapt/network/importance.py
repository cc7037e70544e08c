"""Which units of a group matter: the joint L2 norm of the filters, and the protocol of ChooseWhichFilters.

`LargestNorm` is the paper's choice; `refit.LeastSquaresRefit` the better one. Called by the run for every proposal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from netadapt.errors import ConfigError
from netadapt.network.network import Network
from netadapt.network.structure import ChannelGroup, Role
from netadapt.network.surgery import masks

Ints = NDArray[np.int64]


class FilterChoice(Protocol):
    """ChooseWhichFilters: which units of a group stay, and what becomes of the weights.

    `prepare` comes first; `choose` and `apply` then refer to the module it was given, which must not change meanwhile.
    """

    def prepare(self, module: nn.Module) -> None:
        """Take ``module``, a shrunk version of the network or the original itself, as the one to choose in."""
        ...

    def choose(self, group: str, width: int) -> tuple[int, ...]:
        """Return the ``width`` units to keep: rising indices of the original network, a subset of what is left."""
        ...

    def apply(self, kept: Mapping[str, Sequence[int]]) -> nn.Module:
        """Return the prepared module shrunk to ``kept`` (one or several groups), weights and statistics adjusted."""
        ...


class LargestNorm:
    """Keep the units whose filters have the largest joint L2 norm, weights as they are (the paper, section 3.2).

    Args:
        network: the trace of the original.
        refresh: re-estimates the batch-norm statistics of a shrunk module, in place.
    """

    def __init__(self, network: Network, refresh: Callable[[nn.Module], None] = lambda module: None) -> None:
        self._network = network
        self._refresh = refresh
        self._module: nn.Module = network.model

    def prepare(self, module: nn.Module) -> None:
        """See `FilterChoice`."""
        self._module = module

    def choose(self, group: str, width: int) -> tuple[int, ...]:
        """See `FilterChoice`; of units with equal norms the lower stay."""
        ranked = rank_by_norm(self._network, self._module, group)
        check_width(self._network.group(group), width, len(ranked))
        return tuple(sorted(ranked[:width]))

    def apply(self, kept: Mapping[str, Sequence[int]]) -> nn.Module:
        """See `FilterChoice`."""
        module = self._network.shrink(kept, weights_of=self._module)
        self._refresh(module)
        return module


class Places:
    """Where the units of the original network are in the tensors of a shrunk version of it.

    Args:
        network: the trace of the original.
        module: a shrunk version of it, or the original.
    """

    def __init__(self, network: Network, module: nn.Module) -> None:
        self._network = network
        self._kept = network.kept_of(module)
        self._masks = masks(network, self._kept)

    def units(self, group: str) -> Ints:
        """Return which units of ``group`` there still are: rising indices of the original."""
        return np.array(self._kept[group], dtype=np.int64)

    def present(self, tensor: str, axis: int) -> Ints:
        """Return which entries of an axis of the original's tensor there still are, rising."""
        mask = self._masks.get(tensor, {}).get(axis)
        return np.arange(self._network.shapes[tensor][axis]) if mask is None else np.flatnonzero(mask)

    def entries(self, group: str, tensor: str, role: Role, axis: int) -> Ints:
        """Return ``(current width, entries)``: where the units of ``group`` are now along an axis of ``tensor``."""
        units = self.units(group)
        uses = [
            use.indices[units]
            for use in self._network.group(group).axes
            if (use.tensor, use.role, use.axis) == (tensor, role, axis)
        ]
        return np.searchsorted(self.present(tensor, axis), np.concatenate(uses, axis=1))


def parameters_there(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return all parameters under all of their names; those of blocks that are gone are not among them."""
    return dict(module.named_parameters(remove_duplicate=False))


def unit_norms(network: Network, module: nn.Module, group: str) -> NDArray[np.float64]:
    """Return the L2 norm of each unit's filters, over all layers that produce the unit together.

    Args:
        network: the trace of the original.
        module: a shrunk version of it, or the original.
        group: name of a group.

    Returns:
        ``(current width,)``, in the order of the units that ``module`` still has. Biases and norms do not count.
    """
    places = Places(network, module)
    squares = np.zeros(len(places.units(group)))
    producers = {(use.tensor, use.axis) for use in network.group(group).axes if use.role == "output"}
    there = parameters_there(module)
    for tensor, axis in sorted(producers):
        if tensor not in there:
            continue
        weight = there[tensor].detach().double()
        by_entry = weight.square().movedim(axis, 0).flatten(1).sum(1).cpu().numpy()
        squares += by_entry[places.entries(group, tensor, "output", axis)].sum(1)
    return np.sqrt(squares)


def rank_by_norm(network: Network, module: nn.Module, group: str) -> list[int]:
    """Return the units that ``module`` still has (indices of the original), the largest joint norm first.

    Args:
        network: the trace of the original.
        module: a shrunk version of it, or the original.
        group: name of a group.
    """
    order = np.argsort(-unit_norms(network, module, group), kind="stable")
    return [int(unit) for unit in Places(network, module).units(group)[order]]


def check_width(group: ChannelGroup, width: int, current: int) -> None:
    """Refuse a width that the group cannot be shrunk to.

    Raises:
        ConfigError: ``width`` is below 1 (0 where a whole block can go) or above ``current``.
    """
    if not group.narrowest <= width <= current:
        raise ConfigError(
            f"width of {group.name}: {width} is not in {group.narrowest}..{current}, the units it has now; "
            "choose one of those."
        )
