"""Random weights and inputs for the proof by values: telling, cheap to draw, no larger than they need to be.

Random well-scaled weights and batch statistics, because trained ones may hide a channel behind a zero; another batch
size than the example's, because a constant in ``forward`` may hide behind it; and smaller images where a network is
expensive. Called by `bench.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_leaves, tree_map

from netadapt.network import surgery
from netadapt.network.spread import spread

if TYPE_CHECKING:
    from netadapt.network.network import Network

# Multiply-accumulates that one forward pass of the proof may cost before smaller images are tried, and how small: with
# batch norms there must be more than one pixel per image at the end, or all that train mode shows is signs.
_AFFORDABLE_MACS, _GRANULE, _SMALLEST, _SMALLEST_WITH_NORMS = 5e8, 32, 32, 64
_DRAWN = 1_000_003


def without_hooks(model: nn.Module) -> nn.Module:
    """Remove all forward hooks from ``model``, in place, and return it."""
    for part in model.modules():
        part._forward_hooks.clear()
        part._forward_pre_hooks.clear()
    return model


def telling(value: Any) -> Any:
    """Return an input in float64; where it is one number everywhere, which would hide everything, a random one."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    if value.numel() > 1 and bool((value == value.reshape(-1)[0]).all()):
        return _random(value.shape, torch.Generator().manual_seed(0)).to(value.device)
    return value.double()


def _random(shape: Sequence[int], generator: torch.Generator, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    """Return uniform numbers of mean ``shift`` and deviation ``scale``: many times cheaper than normal ones.

    Of many numbers only the first million are drawn and then repeated; as that is a prime, no two channels are alike.
    """
    count = math.prod(shape)
    drawn = _drawn(min(count, _DRAWN), generator, scale, shift)
    if count > _DRAWN:
        drawn = drawn.repeat(-(-count // _DRAWN))[:count]
    return drawn.reshape(tuple(shape))


def _drawn(count: int, generator: torch.Generator, scale: float, shift: float) -> Tensor:
    reach = 3**0.5 * scale
    return torch.empty(count, dtype=torch.float64).uniform_(shift - reach, shift + reach, generator=generator)


def _weight(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Return random values for a parameter; those of a big one overlap in memory."""
    fan_in = tensor[0].numel() if tensor.ndim > 1 else 1
    scale, shift = ((2.0 / fan_in) ** 0.5, 0.0) if fan_in > 1 else (0.3, 0.5)
    big = spread(tensor.shape, lambda count: _drawn(count, generator, scale, shift).to(tensor.device))
    return _random(tensor.shape, generator, scale, shift).to(tensor.device) if big is None else big


def own_values(_: str, tensor: Tensor) -> Tensor:
    """Return a tensor of the model in float64, for `surgery.copy_with`."""
    return tensor.double() if tensor.is_floating_point() else tensor


def randomised(model: nn.Module) -> nn.Module:
    """Return a float64 copy with random values that keep signals alive (He's scale) and channels distinguishable."""
    generator = torch.Generator().manual_seed(0)
    parameters = {name for name, _ in model.named_parameters()}
    norms = {name for name, part in model.named_modules() if isinstance(part, _NormBase)}

    def change(name: str, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        part, _, own = name.rpartition(".")
        if name in parameters:
            return _weight(tensor, generator)
        if part in norms and own == "running_mean":
            value = _random(tensor.shape, generator, 0.3)
        elif part in norms and own == "running_var":
            value = _random(tensor.shape, generator, 0.1, 1.0)
        else:
            value = tensor.double()
        return value.to(tensor.device)

    return without_hooks(surgery.copy_with(model, change))


def batch_of(inputs: Any) -> int:
    """Return the first size of the first tensor, 0 if there is none."""
    sizes = [t.shape[0] for t in tree_leaves(inputs) if isinstance(t, Tensor) and t.ndim]
    return sizes[0] if sizes else 0


def rebatched(inputs: Any) -> Any:
    """Return random inputs like ``inputs`` with 2 images (3 if the example has 2)."""
    generator = torch.Generator().manual_seed(0)
    old = batch_of(inputs)
    new = 3 if old == 2 else 2

    def change(t: Any) -> Any:
        if not isinstance(t, Tensor):
            return t
        rows = torch.arange(new) % max(old, 1)
        wider = t[rows.to(t.device)] if t.ndim and t.shape[0] == old else t
        return _random(wider.shape, generator).to(wider) if wider.is_floating_point() else wider

    return tree_map(change, inputs)


def _has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(part, _NormBase) for part in model.modules())


def macs_of(inputs: Any, network: Network) -> float:
    """Return about how many multiply-accumulates one forward pass takes."""
    sizes = [sum(t.numel() for t in tree_leaves(x) if isinstance(t, Tensor)) for x in (inputs, network.example_inputs)]
    return network.macs() * sizes[0] / max(sizes[1], 1)


def smaller(inputs: Any, network: Network) -> Any:
    """Return smaller images where ``inputs`` make the proof expensive, else ``None``."""
    scale = math.sqrt(_AFFORDABLE_MACS / max(macs_of(inputs, network), 1))
    if scale >= 1:
        return None
    smallest = _SMALLEST_WITH_NORMS if _has_batch_norm(network.model) else _SMALLEST
    generator = torch.Generator().manual_seed(1)

    def change(t: Any) -> Any:
        if not isinstance(t, Tensor) or not t.is_floating_point() or t.ndim < 4:
            return t
        sides = [min(s, max(smallest, math.ceil(s * scale / _GRANULE) * _GRANULE)) for s in t.shape[2:]]
        return _random([*t.shape[:2], *sides], generator).to(t.device) if sides != list(t.shape[2:]) else t

    changed = tree_map(change, inputs)
    pairs = zip(tree_leaves(changed), tree_leaves(inputs), strict=True)
    return changed if any(a is not b for a, b in pairs) else None
