"""Label tensors and the table of atoms: the arithmetic that label propagation is made of.

An *atom* is one entry of one axis of one parameter or buffer. A *label tensor* has the shape of an activation and says
for every element which atom it belongs to (-1: none); it is stride-0 along dimensions where nothing changes (batch,
space), so that it never costs the memory of the activation. Used by `propagation.py` and `rules/`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from netadapt.network.structure import Role

NONE = -1

# Which of several reasons a user is told: the lower, the more informative.
RANK_PROOF, RANK_ASKED, RANK_OUTPUT, RANK_OPERATION, RANK_INPUT = range(5)


@dataclass
class Slot:
    """One axis of one parameter or buffer; its atoms are ``start .. start + size``."""

    tensor: str
    axis: int
    start: int
    size: int
    role: Role


@dataclass(frozen=True)
class Pin:
    """Atoms that must stay, why, and the user's source line as ``file.py:12`` where there is one.

    ``statistic``: they need not if removals may be inexact.
    """

    atoms: NDArray[np.int64]
    reason: str
    rank: int
    where: str = ""
    statistic: bool = False


@dataclass
class Atoms:
    """All atoms of a network, which of them are tied, and which must stay.

    Attributes:
        slots: axes in order of first use, which is the order of execution.
        edges: pairs of equally long arrays of tied atoms.
        pins: atoms that must stay.
        splits: layouts of units that a reshape spread over several dimensions, one of which must shrink (`splits.py`).
        meetings: pairs of labels that meet element by element, one of which does not vary along all dimensions of the
            other: whether they are tied depends on which dimension shrinks.
        opaque: atoms that stand for a whole tensor of unknown inner structure (network inputs, unknown operations).
        exact: whether what mixes the statistics of channels pins them; else it is noted in ``mixed``.
        mixed: atoms whose removal changes a statistic that others are normalised by, and where.
    """

    slots: list[Slot] = field(default_factory=list)
    edges: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)
    splits: list[Tensor] = field(default_factory=list)
    meetings: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    opaque: set[int] = field(default_factory=set)
    exact: bool = True
    mixed: list[Pin] = field(default_factory=list)
    count: int = 0
    _by_axis: dict[tuple[str, int], Slot] = field(default_factory=dict)

    def axis(self, tensor: str, axis: int, size: int, role: Role = "elementwise") -> Tensor:
        """Return the atoms ``(size,)`` of an axis, made on first use; ``role`` refines ``elementwise``."""
        slot = self._by_axis.get((tensor, axis))
        if slot is None:
            slot = Slot(tensor, axis, self.count, size, role)
            self._by_axis[tensor, axis] = slot
            self.slots.append(slot)
            self.count += size
        atoms = torch.arange(slot.start, slot.start + size)
        if slot.role == "elementwise":
            slot.role = role
        elif role not in ("elementwise", slot.role):
            self.pin(atoms, f"axis {axis} of {tensor} is both an input and an output of contractions")
        return atoms

    def slot(self, tensor: str, axis: int) -> Slot | None:
        """Return the slot of an axis, or ``None`` if no operation used it."""
        return self._by_axis.get((tensor, axis))

    def fresh(self, size: int) -> Tensor:
        """Return ``size`` new atoms that live on no parameter (zero padding, outputs of unknown operations)."""
        self.count += size
        return torch.arange(self.count - size, self.count)

    def unknown(self, shape: Sequence[int], reason: str, rank: int = RANK_OPERATION, where: str = "") -> Tensor:
        """Return labels for a tensor whose inner structure is unknown: one pinned atom everywhere."""
        atom = self.fresh(1)
        self.opaque.add(int(atom))
        self.pin(atom, reason, rank, where)
        return spread(atom.reshape([1] * len(shape)), shape)

    def tie(self, a: Tensor, b: Tensor) -> None:
        """Let the atoms ``a`` and ``b`` (broadcastable labels) only be removed together; -1 ties nothing."""
        left, right = np.broadcast_arrays(compact(a).numpy(), compact(b).numpy())
        pairs = np.stack([left.reshape(-1), right.reshape(-1)])
        pairs = pairs[:, (pairs >= 0).all(0) & (pairs[0] != pairs[1])]
        if pairs.size:
            self.edges.append((pairs[0], pairs[1]))

    def meet(self, wide: Tensor, narrow: Tensor) -> None:
        """Tie ``narrow`` to ``wide``, along whose other dimensions it is repeated, where those are not what shrinks."""
        wide, narrow = compact(wide), compact(narrow)
        if (narrow >= 0).any() and (wide >= 0).any():
            self.meetings.append((wide, narrow))

    def pin(self, labels: Tensor, reason: str, rank: int = RANK_OPERATION, where: str = "") -> None:
        """Forbid the removal of every atom in ``labels``, because of ``reason``, found at the source line ``where``."""
        self.pins += _pins(labels, reason, rank, where)

    def mix(self, labels: Tensor, reason: str, where: str = "") -> None:
        """Note that removing any of ``labels`` changes the values of the others: pinned if all must be `exact`."""
        found = _pins(labels, reason, RANK_OPERATION, where, statistic=True)
        (self.pins if self.exact else self.mixed).extend(found)


def _pins(labels: Tensor, reason: str, rank: int, where: str, *, statistic: bool = False) -> list[Pin]:
    atoms = np.unique(compact(labels).numpy())
    atoms = atoms[atoms >= 0]
    return [Pin(atoms, reason, rank, where, statistic)] if atoms.size else []


def compact(labels: Tensor) -> Tensor:
    """Return ``labels`` with every stride-0 dimension narrowed to size 1."""
    for dim, (size, stride) in enumerate(zip(labels.shape, labels.stride(), strict=True)):
        if size > 1 and stride == 0:
            labels = labels.narrow(dim, 0, 1)
    return labels


def varying(labels: Tensor) -> list[int]:
    """Return the dimensions along which ``labels`` change."""
    return [dim for dim, size in enumerate(compact(labels).shape) if size > 1]


def spread(labels: Tensor, shape: Sequence[int]) -> Tensor:
    """Expand ``labels`` to ``shape`` without using memory (dimensions of size 1 become stride 0)."""
    return labels.expand(tuple(shape))


def tidy(labels: Tensor) -> Tensor:
    """Return the same labels with stride 0 wherever they do not change."""
    shape = labels.shape
    labels = compact(labels)
    for dim, size in enumerate(labels.shape):
        if size > 1 and bool((labels == labels.narrow(dim, 0, 1)).all()):
            labels = labels.narrow(dim, 0, 1)
    return spread(labels, shape)


def none(shape: Sequence[int]) -> Tensor:
    """Return labels for a tensor that belongs to no unit."""
    return spread(torch.full([1] * len(shape), NONE), shape)


def vector(labels: Tensor, dim: int) -> Tensor | None:
    """Return the labels along ``dim``, ``(size,)``, or ``None`` if they change along another dimension too."""
    dim %= labels.ndim
    if any(other != dim for other in varying(labels)):
        return None
    return compact(labels).reshape(-1).expand(labels.shape[dim])


def along(atoms: Tensor, dim: int, shape: Sequence[int]) -> Tensor:
    """Return labels of ``shape`` that are ``atoms`` along ``dim`` and constant elsewhere."""
    view = [1] * len(shape)
    view[dim] = -1
    return spread(atoms.reshape(view), shape)


def blocks(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Split two shapes with equally many elements into the smallest runs of dimensions with equal products."""
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        a, b = [i] if i < len(old) else [], [j] if j < len(new) else []
        i, j = i + len(a), j + len(b)
        while (left := math.prod(old[d] for d in a)) != (right := math.prod(new[d] for d in b)):
            if left < right:
                a.append(i)
                i += 1
            else:
                b.append(j)
                j += 1
        found.append((a, b))
    return found


def reshape(labels: Tensor, shape: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """Reshape ``labels`` without materialising constant dimensions.

    Args:
        labels: any shape.
        shape: as many elements.

    Returns:
        The labels in ``shape``, and for every dimension of units that was split into several the labels along the new
        ones, all others flattened behind, ``(*new, rest)``: a removal must shrink exactly one of the new dimensions,
        or the tensor would not be rectangular (see `splits.py`).
    """
    if labels.numel() == 0:
        return labels.reshape(tuple(shape)), []
    changing = set(varying(labels))
    small, inner, splits = labels, [1] * len(shape), []
    for a, b in blocks(labels.shape, shape):
        if changing.isdisjoint(a):
            for dim in a:
                small = small.narrow(dim, 0, 1)
        else:
            for dim in b:
                inner[dim] = shape[dim]
            if len(changing.intersection(a)) == 1:
                splits.append(b)
    result = tidy(spread(small.reshape(inner), shape))
    changed = varying(result)
    spread_over = [[dim for dim in block if dim in changed] for block in splits]
    layouts = [_in_front(compact(result), dims) for dims in spread_over if len(dims) > 1]
    return result, layouts


def _in_front(labels: Tensor, dims: Sequence[int]) -> Tensor:
    rest = [dim for dim in range(labels.ndim) if dim not in dims]
    return labels.permute(*dims, *rest).reshape(*(labels.shape[dim] for dim in dims), -1)
