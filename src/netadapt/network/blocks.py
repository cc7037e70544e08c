"""Residual blocks that can go as a whole: without its branch such a block hands on what it was given.

`trace(..., blocks=True)` asks for them. A block belongs to the first channel group that is all within it: at width 0
that group has no unit left, the block is gone with whatever else is in it, and `surgery.py` leaves an `nn.Identity` in
its place. That is exact in the same sense as every other removal: the shrunk network equals the original with all
parameters of the block set to zero.
"""

from __future__ import annotations

import copy
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from netadapt.network.batch_norm import call
from netadapt.network.bench import outputs_of
from netadapt.network.borrowed import clean_copy
from netadapt.network.groups import layer_of
from netadapt.network.prove import difference
from netadapt.network.stand_in import rebatched, telling, without_hooks
from netadapt.network.structure import within

if TYPE_CHECKING:
    from netadapt.network.network import Network
    from netadapt.network.structure import ChannelGroup

_log = logging.getLogger("netadapt")
_EXACT = 1e-9  # of the largest output, in float64
_SCALES = (1.0, 1e3)  # what is handed on is so at any size: an activation may have an upper bound


def residual_blocks(network: Network) -> dict[str, str]:
    """Return the modules that look like blocks that can go, by the group that each belongs to; `exact_blocks` tells.

    A block is a module that is called once, on one tensor, gives one of the same shape, and gives it back unchanged
    when all of its own parameters are zero; the innermost of several. At least one group is all within it. Nothing in
    it has a name outside it or was asked to be kept.

    Args:
        network: traced, its groups proved.
    """
    around = {group.name: list(_around(group)) for group in network.groups}
    everywhere = _names(network.model)
    names = {name for path in around.values() for name in path if not _shared(name, everywhere)}
    names = {name for name in names if not any(within(kept, [name]) for kept in network.asked_to_keep)}
    residual = _residual(network, names) if names else set()
    found: dict[str, str] = {}
    for group, path in around.items():
        block = next((name for name in path if name in residual), None)
        inner = block is not None and not any(within(other, [block]) for other in residual - {block})
        if block is not None and inner and block not in found.values():
            found[group] = block
    return found


def exact_blocks(network: Network, groups: Sequence[str]) -> list[str]:
    """Return those of ``groups`` whose blocks can go: the network then equals the masked original, and trains.

    Args:
        network: whose groups know their blocks.
        groups: names.
    """
    if not groups:
        return []
    trained = _shapes_in_training(network, network.model)
    if _goes(network, groups, trained):
        return list(groups)
    return [group for group in groups if _goes(network, [group], trained)]


def _goes(network: Network, groups: Sequence[str], trained: list[torch.Size] | None) -> bool:
    """Tell whether the blocks of some groups can go at once; ``trained`` as of the whole network in train mode."""
    kept: dict[str, tuple[int, ...]] = dict.fromkeys(groups, ())
    try:
        error, scale = difference(network, kept, network.model)
        same = trained is None or trained == _shapes_in_training(network, network.shrink(kept))
    except Exception as failure:  # noqa: BLE001  whatever the user's forward raises without its block
        _log.debug("the blocks of %s cannot go: %s", ", ".join(groups), failure)
        return False
    return same and error <= _EXACT * max(scale, 1e-30)


def _shapes_in_training(network: Network, module: nn.Module) -> list[torch.Size] | None:
    """Return the shapes of the outputs in train mode; ``None`` if the module does not run there."""
    try:
        outputs = outputs_of(copy.deepcopy(module).double(), rebatched(network.example_inputs), training=True)
    except Exception as failure:  # noqa: BLE001  whatever the user's forward raises
        _log.debug("train mode does not run: %s", failure)
        return None
    return [output.shape for output in outputs]


def _around(group: ChannelGroup) -> Iterator[str]:
    """Yield the modules that hold all of a group, innermost first."""
    paths = [layer_of(use.tensor).split(".") for use in group.axes]
    steps = takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
    common = [parts[0] for parts in steps]
    for length in range(len(common), 0, -1):
        yield ".".join(common[:length])


def _names(model: nn.Module) -> list[list[str]]:
    """Return the names of each module, parameter and buffer that has more than one."""
    names: defaultdict[int, list[str]] = defaultdict(list)
    everything = (model.named_modules, model.named_parameters, model.named_buffers)
    for name, held in (pair for named in everything for pair in named(remove_duplicate=False)):
        names[id(held)].append(name)
    return [each for each in names.values() if len(each) > 1]


def _shared(block: str, names: list[list[str]]) -> bool:
    """Tell whether something in a block also has a name outside it."""
    inside = ([within(name, [block]) for name in each] for each in names)
    return any(any(each) and not all(each) for each in inside)


def _residual(network: Network, names: set[str]) -> set[str]:
    """Return those of the modules ``names`` that hand on what they are given."""
    model = without_hooks(clean_copy(network.model, borrow=False)).double()
    try:
        seen = _inputs_of(names, model, tree_map(telling, network.example_inputs))
    except Exception as failure:  # noqa: BLE001  whatever the user's forward raises in float64
        _log.debug("no blocks are looked for: %s", failure)
        return set()
    return {name for name, given in seen.items() if _hands_on(model.get_submodule(name), given)}


def _inputs_of(names: set[str], model: nn.Module, inputs: Any) -> dict[str, Tensor]:
    """Return what comes into those modules that are called once, on one tensor, and give one like it."""
    calls: dict[str, list[Tensor | None]] = {name: [] for name in names}

    def watch(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], options: dict[str, Any], output: Any) -> None:
            alone = len(args) == 1 and not options and isinstance(args[0], Tensor) and isinstance(output, Tensor)
            same = alone and args[0].shape == output.shape and args[0].dtype == output.dtype
            calls[name].append(args[0].clone() if same else None)

        return hook

    hooks = [model.get_submodule(name).register_forward_hook(watch(name), with_kwargs=True) for name in names]
    with torch.no_grad():
        call(model, inputs)
    for hook in hooks:
        hook.remove()
    return {name: seen[0] for name, seen in calls.items() if len(seen) == 1 and seen[0] is not None}


def _hands_on(part: nn.Module, given: Tensor) -> bool:
    """Tell whether a module gives back what it is given when all of its parameters are zero."""
    if not given.isfinite().all() or not given.any():
        return False
    empty = copy.deepcopy(part)
    with torch.no_grad():
        for parameter in empty.parameters():
            parameter.zero_()
        try:
            return all(torch.equal(empty(scale * given), scale * given) for scale in _SCALES)
        except Exception as failure:  # noqa: BLE001  whatever the user's forward raises
            _log.debug("%s does not run without parameters: %s", type(part).__name__, failure)
            return False
