"""Networks with nothing learned: what the paper's multipliers are, and what the widths that were found are worth alone.

`FreshWeights` is the `FilterChoice` of ``method = "from-scratch"``; `draw_weights` also serves
``[training.long_term] from_scratch``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from netadapt.errors import ConfigError
from netadapt.network.importance import check_width
from netadapt.network.network import Network


def draw_weights(module: nn.Module, seed: int) -> None:
    """Draw all weights anew, in place, as the modules' own ``reset_parameters`` do, the network's own last.

    Parameters of modules without one keep their values; `check_trainable` refuses such networks.

    Args:
        module: any network, on the CPU.
        seed: of the weights; the global generator stays as it is.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in reversed(list(module.modules())):
            # torch's own attention has it under the other name
            reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
            if callable(reset):
                reset()


def check_trainable(module: nn.Module) -> None:
    """Refuse to train a network from scratch that would not forget everything, or could not learn it again.

    Args:
        module: it is not changed.

    Raises:
        ConfigError: a parameter is frozen, or nothing draws it anew.
    """
    frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    if frozen:
        raise ConfigError(
            f'{len(frozen)} parameters are frozen ("{frozen[0]}", ...), but the network is to be trained from scratch: '
            "weights that are drawn at random must be trained; set requires_grad of all of them, or choose another "
            "method and from_scratch = false under [training.long_term]"
        )
    blank = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in blank.parameters():
            parameter.fill_(math.nan)
    draw_weights(blank, seed=0)
    kept = [name for name, parameter in blank.named_parameters() if parameter.isnan().any()]
    if kept:
        raise ConfigError(
            f'nothing draws {len(kept)} parameters anew ("{kept[0]}", ...), but the network is to be trained from '
            f"scratch: give {type(module).__name__} a method reset_parameters() that does, or choose another method "
            "and from_scratch = false under [training.long_term]"
        )


class FreshWeights:
    """Keep any units, and draw all weights anew; see `draw_weights`.

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
        check_width(self._network.group(group), width, len(units))
        return tuple(units[:width])

    def apply(self, kept: Mapping[str, Sequence[int]]) -> nn.Module:
        """See `FilterChoice`."""
        module = self._network.shrink(kept, weights_of=self._module)
        draw_weights(module, self._seed)
        return module
