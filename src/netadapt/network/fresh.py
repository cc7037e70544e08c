"""A narrower network of the same class with nothing learned: the multipliers that the paper compares with.

The `FilterChoice` of ``method = "from-scratch"``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from netadapt.network.importance import check_width
from netadapt.network.network import Network


class FreshWeights:
    """Keep any units, and draw all weights anew as the modules' own ``reset_parameters`` do, the network's own last.

    Parameters of modules without one keep their values.

    Args:
        network: the trace of the original.
        seed: of the weights.
    """

    def __init__(self, network: Network, *, seed: int) -> None:
        self._network = network
        self._seed = seed
        self._module: nn.Module = network.model

    def prepare(self, module: nn.Module) -> None:
        """See `FilterChoice`."""
        self._module = module

    def choose(self, group: str, width: int) -> tuple[int, ...]:
        """See `FilterChoice`; the first that there are."""
        units = self._network.kept_of(self._module)[group]
        check_width(group, width, len(units))
        return tuple(units[:width])

    def apply(self, kept: Mapping[str, Sequence[int]]) -> nn.Module:
        """See `FilterChoice`."""
        module = self._network.shrink(kept, weights_of=self._module)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            for part in reversed(list(module.modules())):
                reset = getattr(part, "reset_parameters", None)
                if callable(reset):
                    reset()
        return module
