from __future__ import annotations

import numpy as np
import torch

from netadapt.network.labels import Atoms
from netadapt.network.splits import components, settle


def settled(atoms: Atoms, ties=(), held=()) -> tuple[list[int], list[int]]:
    """Return the component of every atom, and the atoms that must stay."""
    left, right = np.array(ties, dtype=np.int64).reshape(-1, 2).T
    component = components(atoms.count, left, right)
    stuck = np.zeros(component.max() + 1, dtype=bool)
    stuck[component[list(held)]] = True
    component, stuck = settle(atoms, component, stuck)
    return component.tolist(), np.flatnonzero(stuck[component]).tolist()


def two_by_three() -> Atoms:
    """Six channels that are viewed as two pieces of three."""
    atoms = Atoms()
    atoms.splits.append(atoms.fresh(6).reshape(2, 3, 1))
    return atoms


def test_components_are_numbered_by_their_smallest_node():
    assert components(5, np.array([3, 1]), np.array([0, 4])).tolist() == [0, 1, 2, 0, 1]
    assert components(3, np.array([], dtype=int), np.array([], dtype=int)).tolist() == [0, 1, 2]


def test_pieces_lose_the_same_places_where_nothing_else_is_known():
    assert settled(two_by_three()) == ([0, 1, 2, 0, 1, 2], [])


def test_whole_pieces_go_where_their_places_are_summed_over():
    assert settled(two_by_three(), ties=[(0, 1), (1, 2), (3, 4), (4, 5)]) == ([0, 0, 0, 1, 1, 1], [])


def test_a_pin_reaches_all_that_goes_with_it():
    component, held = settled(two_by_three(), held=[1])
    assert component == [0, 1, 2, 0, 1, 2]
    assert held == [1, 4]


def test_a_narrow_tensor_stays_where_only_another_dimension_shrinks():
    atoms = Atoms()
    heads = torch.repeat_interleave(atoms.fresh(2), 3).reshape(2, 3)  # whole heads go
    places = atoms.fresh(3)
    atoms.meetings.append((heads, places[None]))
    component, held = settled(atoms)
    assert component[:2] == [0, 1]
    assert held == [2, 3, 4]
