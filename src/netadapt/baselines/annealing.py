"""The best widths under a constraint, by annealed exchanges between groups: a cost to be least, a rule what is allowed.

`one_shot.py` anneals the sum of loss curves, `exchange.py` the foretold loss of whole networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from netadapt.network.structure import ChannelGroup
from netadapt.proposals import Vector, allowed_widths

Losses = NDArray[np.float64]
#: says which of widths ``(m, groups)`` are allowed
Feasible = Callable[[Vector], NDArray[np.bool_]]

#: networks that are annealed side by side
_CHAINS = 32


def options(group: ChannelGroup, multiple: int, minimum: int, least: int = 0) -> Vector:
    """Return the widths that ``group`` may have, rising, its own at last.

    Args:
        group: of the original network.
        multiple: see `netadapt.proposals.allowed_widths`.
        minimum: see there.
        least: narrower ones are left out.
    """
    allowed = allowed_widths(group, group.width, multiple, minimum)
    return np.array([*allowed[allowed >= least], group.width], dtype=np.int64)


def anneal(
    choices: Sequence[Vector],
    first: Vector,
    cost: Callable[[Vector], Losses],
    feasible: Feasible,
    *,
    rounds: int,
    seed: int | Sequence[int],
) -> Vector:
    """Return the widths ``(groups,)`` of least cost that exchanges find.

    Args:
        choices: of each group, see `options`.
        first: widths that are feasible, one of the choices of each group.
        cost: of widths ``(m, groups)``; it may be below zero.
        feasible: the constraint.
        rounds: exchanges that each of the networks that are annealed side by side tries.
        seed: of all draws.
    """
    random = np.random.default_rng(seed)
    most = np.array([len(widths) - 1 for widths in choices])

    def widths_of(indices: Vector) -> Vector:
        return np.stack([c[indices[..., k]] for k, c in enumerate(choices)], axis=-1)

    best = np.array([int(np.searchsorted(c, width)) for c, width in zip(choices, first, strict=True)])
    chains = np.repeat(best[None], _CHAINS, axis=0)
    values = cost(widths_of(chains))
    lowest = float(values[0])
    warmth = 0.0
    for round_ in range(rounds):
        moved = np.clip(chains + _exchanges(random, chains.shape, most), 0, most)
        moved_widths = widths_of(moved)
        moved_values = cost(moved_widths)
        if not round_:  # what an exchange is worth here
            warmth = float(np.abs(moved_values - values).mean())
        temperature = warmth * 10.0 ** (-4 * round_ / rounds)
        hot = random.random(_CHAINS) < np.exp(np.minimum(0.0, values - moved_values) / max(temperature, 1e-12))
        rows = np.flatnonzero(hot & (moved != chains).any(axis=1))
        rows = rows[feasible(moved_widths[rows])] if len(rows) else rows
        chains[rows], values[rows] = moved[rows], moved_values[rows]
        leader = int(values.argmin())
        if values[leader] < lowest:
            best, lowest = chains[leader].copy(), float(values[leader])
    return widths_of(best)


def _exchanges(random: np.random.Generator, shape: tuple[int, ...], most: Vector) -> Vector:
    """Return a random move for each chain: one group wider, another narrower, or only one of both; large and small."""
    chains, groups = shape
    move = np.zeros(shape, dtype=np.int64)
    rows = np.arange(chains)
    for sign in (1, -1):
        column = random.integers(groups, size=chains)
        reach = np.maximum(1, most[column] * 2.0 ** -random.integers(1, 7, size=chains)).astype(np.int64)
        # at least one of the two is always there
        there = (random.random(chains) < 0.75) | ((sign == -1) & ~move.any(axis=1))
        move[rows, column] += sign * there * (1 + (random.random(chains) * reach).astype(np.int64))
    return move
