"""Which units of a group matter: the joint L2 norm of the filters, and the protocol of ChooseWhichFilters.

`LargestNorm` is the paper's choice; `refit.LeastSquaresRefit` the better one. Called by the run for every proposal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from netadapt.errors import ConfigError
from netadapt.network.network import Network


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
        """Return the prepared module shrunk to ``kept`` (one or several groups), weights adjusted."""
        ...


class LargestNorm:
    """Keep the units whose filters have the largest joint L2 norm, weights as they are (the paper, section 3.2).

    Args:
        network: the trace of the original.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._module: nn.Module = network.model

    def prepare(self, module: nn.Module) -> None:
        """See `FilterChoice`."""
        self._module = module

    def choose(self, group: str, width: int) -> tuple[int, ...]:
        """See `FilterChoice`; of units with equal norms the lower stay."""
        units = current_units(self._network, self._module, group)
        check_width(group, width, len(units))
        return tuple(sorted(rank_by_norm(self._network, self._module, group)[:width]))

    def apply(self, kept: Mapping[str, Sequence[int]]) -> nn.Module:
        """See `FilterChoice`."""
        return self._network.shrink(kept, weights_of=self._module)


def unit_norms(network: Network, module: nn.Module, group: str) -> NDArray[np.float64]:
    """Return the L2 norm of each unit's filters, over all layers that produce the unit together.

    Args:
        network: the trace of the original.
        module: a shrunk version of it, or the original.
        group: name of a group.

    Returns:
        ``(current width,)``, in the order of the units that ``module`` still has. Biases and norms do not count.
    """
    kept = network.kept_of(module)
    units = current_units(network, module, group)
    squares = np.zeros(len(units))
    for use in network.group(group).axes:
        if use.role == "output":
            weight = module.get_parameter(use.tensor).detach().double().movedim(use.axis, 0).flatten(1)
            places = positions(present_entries(network, kept, use.tensor, use.axis), use.indices[units])
            squares += weight.square().sum(1).cpu().numpy()[places].sum(1)
    return np.sqrt(squares)


def rank_by_norm(network: Network, module: nn.Module, group: str) -> list[int]:
    """Return the units that ``module`` still has (indices of the original), the largest joint norm first.

    Args:
        network: the trace of the original.
        module: a shrunk version of it, or the original.
        group: name of a group.
    """
    order = np.argsort(-unit_norms(network, module, group), kind="stable")
    return [int(unit) for unit in current_units(network, module, group)[order]]


def current_units(network: Network, module: nn.Module, group: str) -> NDArray[np.int64]:
    """Return which units of ``group`` ``module`` still has, rising indices of the original."""
    kept = network.kept_of(module).get(group)
    return np.arange(network.group(group).width) if kept is None else np.array(sorted(kept), dtype=np.int64)


def present_entries(
    network: Network, kept: Mapping[str, Sequence[int]], tensor: str, axis: int
) -> NDArray[np.int64]:
    """Return which entries of one axis of the original's tensor a shrunk version still has, rising.

    Args:
        network: the trace of the original.
        kept: units by group; groups not named have lost nothing.
        tensor: qualified name of a parameter.
        axis: of it.
    """
    present = np.ones(network.model.get_parameter(tensor).shape[axis], dtype=np.bool_)
    for group, units in kept.items():
        for use in network.group(group).axes:
            if use.tensor == tensor and use.axis == axis:
                present[np.delete(use.indices, np.asarray(units, dtype=np.int64), axis=0)] = False
    return np.flatnonzero(present)


def positions(present: NDArray[np.int64], entries: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where ``entries`` of the original's axis are in the shrunk one, given those ``present`` there."""
    return np.searchsorted(present, entries)


def check_width(group: str, width: int, current: int) -> None:
    """Refuse a width that the group cannot be shrunk to.

    Raises:
        ConfigError: ``width`` is below 1 or above ``current``.
    """
    if not 1 <= width <= current:
        raise ConfigError(f"width of {group}: {width} is not in 1..{current}, the units it has now; choose one of those.")
