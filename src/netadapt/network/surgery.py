"""Exact surgery: a copy of the user's module with sliced parameters, buffers and attributes; and the masked original.

`Network.shrink` and the proof call these. Kept indices always refer to the original network; a shrunk module carries
its own record of them, so that it can be shrunk further.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from netadapt.errors import ModelError, did_you_mean
from netadapt.network.attributes import Change, changed_attributes, followed
from netadapt.network.spread import BIG, Multiples, Spread, masked_in_use
from netadapt.network.standalone import leave_out, set_sizes
from netadapt.network.structure import within

if TYPE_CHECKING:
    from netadapt.network.network import Network
    from netadapt.network.structure import ChannelGroup

Kept = Mapping[str, Sequence[int]]
Masks = dict[str, dict[int, NDArray[np.bool_]]]  # tensor -> axis -> which original entries are there

RECORD = "_netadapt_kept"


def kept_of(network: Network, module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the original indices that ``module`` still has, for every group.

    A network may itself be traced from a module that some other network was shrunk to: what that lost is no loss here.
    """
    record = record_of(module)
    if record == network.foreign_record:
        record = {}
    return {g.name: tuple(record.get(g.name, range(g.width))) for g in network.groups}


def record_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return what a shrunk module remembers of its surgery; empty for any other module."""
    record: dict[str, tuple[int, ...]] = getattr(module, RECORD, {})
    return record


def complete(network: Network, kept: Kept, have: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Check ``kept`` and fill in the groups that it does not name with all that ``have`` has.

    Raises:
        ModelError: an unknown group, or indices that are not ascending, out of range, already removed, or none where no
            block can go.
    """
    names = [g.name for g in network.groups]
    for name in kept:
        if name not in names:
            raise ModelError(
                f"there is no channel group {name!r}{did_you_mean(name, names)}; groups: {', '.join(names)}"
            )
    result = {}
    for group in network.groups:
        wanted = np.asarray(kept.get(group.name, have[group.name]))
        problem = _problem(wanted, group, have[group.name])
        if problem:
            raise ModelError(f"cannot keep {_short(wanted)} of group {group.name!r} (width {group.width}): {problem}")
        result[group.name] = tuple(wanted.tolist())
    return result


def _problem(wanted: NDArray[np.int64], group: ChannelGroup, have: Sequence[int]) -> str:
    width = group.width
    if group.block and wanted.shape == (0,):
        return ""
    if wanted.ndim != 1 or wanted.size == 0 or not np.issubdtype(wanted.dtype, np.integer):
        return "give at least one index, all integers"
    if (np.diff(wanted) <= 0).any():
        return "indices must be ascending and distinct"
    if wanted[0] < 0 or wanted[-1] >= width:
        return f"indices refer to the original network and lie in 0..{width - 1}"
    if wanted.size < group.minimum:
        return f"at least {group.minimum} units must stay, or the forward pass does not work"
    if len(have) < width and not np.isin(wanted, have).all():
        return "the module given as weights_of has already lost some of these units"
    return ""


def _short(wanted: NDArray[np.int64]) -> str:
    items = wanted.reshape(-1).tolist()
    return str(items) if len(items) <= 8 else f"[{', '.join(map(str, items[:6]))}, ... ({len(items)} indices)]"


def gone_blocks(network: Network, kept: Kept) -> list[str]:
    """Return the blocks that are gone: those of groups without a unit; groups that ``kept`` does not name have some."""
    return [g.block for g in network.groups if g.block and g.name in kept and not len(kept[g.name])]


def masks(network: Network, kept: Kept) -> Masks:
    """Return which entries of every axis stay; axes that lose nothing, and blocks that are gone, are left out."""
    result: Masks = {}
    blocks = gone_blocks(network, kept)
    for group in network.groups:
        if len(kept[group.name]) == group.width:
            continue
        gone = np.setdiff1d(np.arange(group.width), kept[group.name])
        for use in group.axes:
            if within(use.tensor, blocks):
                continue
            by_axis = result.setdefault(use.tensor, {})
            mask = by_axis.setdefault(use.axis, np.ones(network.shapes[use.tensor][use.axis], dtype=bool))
            mask[use.indices[gone]] = False
    return result


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers by canonical name (the first of a shared tensor's names)."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def shrink(network: Network, kept: Kept, weights_of: nn.Module | None = None, *, borrow: bool = False) -> nn.Module:
    """Return a copy of ``weights_of`` (default: the original) that has only the units ``kept``.

    Args:
        network: the traced network.
        kept: ascending indices of the original network by group; groups not named keep all that there is.
        weights_of: the original or a shrunk version of it.
        borrow: share the parameters that lose nothing with ``weights_of``.

    Raises:
        ModelError: indices that cannot be kept, or a module that is no version of this network.
    """
    source = network.model if weights_of is None else weights_of
    have = kept_of(network, source)
    wanted = complete(network, kept, have)
    check_version(network, source, have)
    stays = _staying(network, have, wanted)
    positions = {name: {axis: np.flatnonzero(mask) for axis, mask in axes.items()} for name, axes in stays.items()}
    result = slice_module(source, positions, borrow=borrow)
    for block in gone_blocks(network, wanted):
        leave_out(result, block)
    for name, attributes in fixed_attributes(network, result, wanted).items():
        set_sizes(result.get_submodule(name), attributes)
    setattr(result, RECORD, wanted)
    return result


def staying(network: Network, module: nn.Module, kept: Kept) -> Masks:
    """Return which entries of a version's tensors stay when it is cut to ``kept``; axes without a loss are left out."""
    have = kept_of(network, module)
    return _staying(network, have, complete(network, kept, have))


def _staying(network: Network, have: Kept, wanted: Kept) -> Masks:
    """Return which entries of a version that has the units ``have`` stay; axes that lose nothing are left out."""
    before = masks(network, have)
    result: Masks = {}
    for name, axes in masks(network, wanted).items():
        for axis, mask in axes.items():
            there = before.get(name, {}).get(axis)
            result.setdefault(name, {})[axis] = mask if there is None else mask[there]
    return result


def slice_module(
    source: nn.Module, positions: Mapping[str, Mapping[int, NDArray[np.int64]]], *, borrow: bool = False
) -> nn.Module:
    """Deep-copy ``source`` with tensors sliced to ``positions``.

    Args:
        source: any module; it is not changed.
        positions: which entries to take, by tensor and axis.
        borrow: share the parameters that lose nothing with ``source``.

    Raises:
        ModelError: the module cannot be deep-copied.
    """
    return copy_with(source, lambda name, tensor: _sliced(tensor, positions.get(name, {})), borrow=borrow)


def _sliced(tensor: Tensor, positions: Mapping[int, NDArray[np.int64]]) -> Tensor:
    """Take entries along all axes at once: one axis after the other, there would be big tensors in between."""
    picked = {axis: p for axis, p in positions.items() if len(p) < tensor.shape[axis]}
    if not picked:
        return tensor
    if len(picked) == 1:
        ((axis, kept),) = picked.items()
        before: list[slice | Tensor] = [slice(None)] * axis
        return tensor[(*before, torch.from_numpy(kept).to(tensor.device))]
    sizes = tensor.shape[: max(picked) + 1]
    mesh = np.ix_(*(picked.get(axis, np.arange(size)) for axis, size in enumerate(sizes)))
    return tensor[tuple(torch.from_numpy(p).to(tensor.device) for p in mesh)]


def copy_with(source: nn.Module, change: Callable[[str, Tensor], Tensor], *, borrow: bool = False) -> nn.Module:
    """Deep-copy ``source`` with every parameter and buffer replaced; no tensor is copied twice.

    Args:
        source: any module; it is not changed.
        change: from name and detached tensor to the new one, which may be the same.
        borrow: share the parameters that stay the same with ``source``; buffers, which train mode writes to, never.

    Raises:
        ModelError: the module cannot be deep-copied.
    """
    memo: dict[int, object] = {}
    for name, tensor in tensors_of(source).items():
        new = change(name, tensor.detach())
        same, kind = new.data_ptr() == tensor.data_ptr(), isinstance(tensor, nn.Parameter)
        if same and kind and borrow:
            memo[id(tensor)] = tensor
            continue
        new = new.clone() if same else new
        if kind:
            new = new if isinstance(new, nn.Parameter) else nn.Parameter(new, False)
            new.requires_grad_(tensor.requires_grad)
        memo[id(tensor)] = new
    return deep_copied(source, memo)


def deep_copied(module: nn.Module, memo: dict[int, object]) -> nn.Module:
    """Return a deep copy in which the tensors with an id in ``memo`` are replaced.

    Raises:
        ModelError: the module cannot be deep-copied.
    """
    for part in module.modules():  # of the dictionaries of hooks, most are empty: deepcopy is slow at these
        memo |= {id(value): OrderedDict() for value in vars(part).values() if type(value) is OrderedDict and not value}
    try:
        return copy.deepcopy(module, memo)
    except (RuntimeError, TypeError) as error:
        raise ModelError(
            f"{type(module).__name__} cannot be deep-copied: {error}; keep locks, generators and tensors "
            "with a gradient history out of the module"
        ) from error


def fixed_attributes(
    network: Network, module: nn.Module, kept: Mapping[str, tuple[int, ...]]
) -> dict[str, dict[str, int | tuple[int, ...]]]:
    """Return the attributes that must change on every submodule of the already sliced ``module``."""
    result, originals = {}, dict(network.model.named_modules(remove_duplicate=False))
    widths = np.array([len(kept[g.name]) for g in network.groups], dtype=np.int64)
    blocks = gone_blocks(network, kept)
    for name, part in module.named_modules():
        if within(name, blocks):
            continue
        channels, original = network.channels.get(name), originals[name]
        inputs, outputs = (None, None) if channels is None else (c.mask(kept) for c in channels)
        changed = changed_attributes(Change(part, original, inputs, outputs))
        changed |= followed(original, network.followers.get(name, {}), widths)
        if changed:
            result[name] = changed
    return result


def check_version(network: Network, module: nn.Module, have: Kept) -> None:
    """Check that ``module`` is this network with the units ``have`` of every group.

    Raises:
        ModelError: a tensor is missing or has another shape.
    """
    tensors, there, blocks = tensors_of(module), masks(network, have), gone_blocks(network, have)
    odd = sorted(tensors.keys() ^ {name for name in network.shapes if not within(name, blocks)})
    if odd:
        raise ModelError(
            f"{type(module).__name__} is no version of {type(network.model).__name__}: only one of them has "
            f"{odd[0]!r}; give the original or what network.shrink made of it"
        )
    for name, tensor in tensors.items():
        expected = list(network.shapes[name])
        for axis, mask in there.get(name, {}).items():
            expected[axis] = int(mask.sum())
        if list(tensor.shape) != expected:
            raise ModelError(
                f"{name} has shape {list(tensor.shape)}, by its record it should have {expected}: it is no "
                "version of this network; give the original or what network.shrink made of it"
            )


@dataclass(frozen=True)
class _Masking:
    """What a tensor of a module must do so that units that are gone are ignored.

    Attributes:
        tensor: which.
        factors: zeros and ones for the axes where such units enter.
        rows: of a weight the rows, ``(rows,)`` bool, that make what stays, ``None`` if all do or rows are inputs.
    """

    tensor: Tensor
    factors: list[Tensor]
    rows: Tensor | None


def mask_consumers(network: Network, module: nn.Module, kept: Kept) -> None:
    """Make every consumer in ``module`` ignore, in place, the units that are not ``kept``: the oracle of `shrink`."""
    with torch.no_grad():
        for masking in _maskings(network, module, kept).values():
            for factor in masking.factors:
                masking.tensor.mul_(factor)


@contextlib.contextmanager
def masked(
    network: Network, module: nn.Module, kept: Kept, skip: Set[str] = frozenset(), *, sparing: bool = False
) -> Iterator[None]:
    """Let the consumers in ``module`` use masked weights for a while, see `mask_consumers`, then their own again.

    Args:
        network: the traced network.
        module: whose weights are masked; not those that ``skip`` names.
        kept: as in `shrink`.
        skip: names of tensors.
        sparing: let the units that are ignored be sums of multiples of others, which costs little. Whatever they are,
            they must not matter; but the module is then another one than ``module``.
    """
    with contextlib.ExitStack() as stack:
        for name, masking in _maskings(network, module, kept).items():
            if name not in skip:
                stack.enter_context(_masked_tensor(masking, sparing))
        yield


@contextlib.contextmanager
def _masked_tensor(masking: _Masking, sparing: bool) -> Iterator[None]:
    tensor, rows = masking.tensor, masking.rows if sparing else None
    pays = rows is not None or (masking.factors and tensor.numel() >= BIG)
    if pays and isinstance(tensor, nn.Parameter) and type(tensor) in (Spread, nn.Parameter):
        with masked_in_use(tensor, masking.factors, None if rows is None else Multiples.of_kept(rows, tensor)):
            yield
        return
    own = tensor.data
    tensor.data = functools.reduce(torch.mul, masking.factors, own)
    try:
        yield
    finally:
        tensor.data = own


def _maskings(network: Network, module: nn.Module, kept: Kept) -> dict[str, _Masking]:
    """Return what the tensors of ``module`` must do so that units that are not ``kept`` are ignored."""
    inputs = {(use.tensor, use.axis) for group in network.groups for use in group.axes if use.role == "input"}
    tensors, result = tensors_of(module), {}
    for name, axes in staying(network, module, kept).items():
        tensor = tensors[name]
        stays = {axis: torch.from_numpy(mask).to(tensor.device) for axis, mask in axes.items()}
        result[name] = _Masking(
            tensor,
            [
                mask.to(tensor).reshape([-1 if dim == axis else 1 for dim in range(tensor.ndim)])
                for axis, mask in stays.items()
                if (name, axis) in inputs
            ],
            stays.get(0) if tensor.ndim > 1 and (name, 0) not in inputs else None,
        )
    blocks = gone_blocks(network, kept)
    for name, parameter in module.named_parameters():
        if within(name, blocks):  # a block that is gone is one whose parameters are all zero
            result[name] = _Masking(parameter, [parameter.new_zeros([1] * parameter.ndim)], None)
    return result
