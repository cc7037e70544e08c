"""Which dimension shrinks where a reshape spread units over several: whole heads, or the same places in every piece.

A view of C channels as (pieces, length) stays rectangular if every piece loses the same places, or if whole pieces go.
What is done with the pieces later decides: attention sums over the places within a head, so that only whole heads can
go; a channel shuffle or a chunk keeps its number of pieces. Called by `groups.py` once all ties are known.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from netadapt.network.labels import Atoms

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


def components(size: int, left: Ints, right: Ints) -> Ints:
    """Return the component ``(size,)`` of every node, numbered in order of the smallest node."""
    if not len(left):
        return np.arange(size)
    graph = coo_matrix((np.ones(len(left), dtype=np.int8), (left, right)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1]
    first = np.unique(labels, return_index=True)[1]
    return np.argsort(np.argsort(first))[labels].astype(np.int64)


def settle(atoms: Atoms, component: Ints, stuck: Flags) -> tuple[Ints, Flags]:
    """Choose a dimension for every split; return the components ``(atoms,)`` then, and which of them must stay.

    Args:
        atoms: with their splits and meetings.
        component: of every atom, by its ties.
        stuck: by component, whether a pin holds it.
    """
    state = _Merged(component, stuck.copy())
    for layout in atoms.splits:
        places = layout.numpy()
        state.apply(_choice(state, places))
    for wide, narrow in atoms.meetings:
        state.apply(_meeting(state, wide.numpy(), narrow.numpy()))
    names, first, inverse = np.unique(state.component, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first)).astype(np.int64)
    held = np.empty(len(names), dtype=bool)
    held[order] = state.stuck[names]
    return order[inverse], held


class _Merged:
    """Components while more of them are tied."""

    def __init__(self, component: Ints, stuck: Flags) -> None:
        self.component, self.stuck = component, stuck

    def trial(self, left: Ints, right: Ints) -> tuple[Ints, Ints]:
        """Return (components touched, which of each other they would be one with) if these were tied."""
        touched, local = np.unique(np.stack([left, right]), return_inverse=True)
        local = local.reshape(2, -1)
        return touched, components(len(touched), local[0], local[1])

    def apply(self, pairs: tuple[Ints, Ints]) -> None:
        """Tie components pairwise."""
        if not len(pairs[0]):
            return
        touched, merged = self.trial(*pairs)
        target = np.arange(len(self.stuck))
        target[touched] = touched[np.unique(merged, return_index=True)[1]][merged]
        np.logical_or.at(self.stuck, target, self.stuck.copy())
        self.component = target[self.component]


def _choice(state: _Merged, layout: Ints) -> tuple[Ints, Ints]:
    """Return the ties for the last dimension of a split that leaves something to remove; else for the last of all."""
    chosen: tuple[Ints, Ints] | None = None
    for dim in reversed(range(layout.ndim - 1)):
        pairs = _rows(state, np.moveaxis(layout, dim, 0).reshape(layout.shape[dim], -1))
        touched, merged = state.trial(*pairs)
        free = np.ones(merged.max(initial=-1) + 1, dtype=bool)
        np.logical_and.at(free, merged, ~state.stuck[touched])
        if free.sum() > 1:
            return pairs
        chosen = chosen or pairs
    assert chosen is not None
    return chosen


def _rows(state: _Merged, rows: Ints) -> tuple[Ints, Ints]:
    """Return ties between all components of each row; -1 is no atom; every component is named at least once."""
    valid = rows >= 0
    found = np.where(valid, state.component[rows], -1)
    first = np.take_along_axis(found, valid.argmax(1)[:, None], axis=1)
    first = np.broadcast_to(first, found.shape)[valid]
    return first, found[valid]


def _meeting(state: _Merged, wide: Ints, narrow: Ints) -> tuple[Ints, Ints]:
    """Return the ties of a narrow tensor; where only a dimension that it lacks shrinks, it must stay as it is."""
    shape = np.broadcast_shapes(wide.shape, narrow.shape)
    wide, narrow = (x.reshape([1] * (len(shape) - x.ndim) + list(x.shape)) for x in (wide, narrow))
    own = [d for d in range(len(shape)) if narrow.shape[d] > 1]
    found = np.where(wide >= 0, state.component[wide], -1)
    rigid = all((found == found.take([0], d)).all() for d in own if found.shape[d] > 1)
    if rigid and any(found.shape[d] > 1 for d in own):
        state.stuck[state.component[narrow[narrow >= 0]]] = True
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    other = np.broadcast_to(np.where(narrow >= 0, state.component[narrow], -1), shape)
    found = np.broadcast_to(found, shape)
    both = (found >= 0) & (other >= 0)
    return found[both], other[both]
