"""Which networks to measure so that an estimator learns the most (DESIGN section 8).

Called by `build.py` for the estimator's data and by `verify.py` for networks that it has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from netadapt.network.structure import ChannelGroup
from netadapt.resources.estimator import Widths

if TYPE_CHECKING:
    from netadapt.network import Network

_Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
_ALL_BLOCKS = 1 / 2  # of the networks keep all of their blocks, where blocks can go
_ATTEMPTS = 50  # draws for one more network before a small network counts as exhausted


def design(network: Network, count: int, seed: int, *, granule: int = 8) -> Widths:
    """Choose networks to measure.

    Cycles through corners, scaled, near-full, independent and uniform-width networks, each alternately on multiples of
    ``granule`` and of twice that. A longer design begins with the shorter one of the same seed. Never contains the
    original network or one network twice.

    Args:
        network: the traced network.
        count: how many networks; fewer come back where the network does not have as many.
        seed: of all draws.
        granule: widths are multiples of this many channels (smaller in groups that would have less than three levels).

    Returns:
        ``(count, groups)``.
    """
    random = np.random.default_rng(seed)
    lattices = [_lattice(network.groups, granule), _lattice(network.groups, 2 * granule)]
    seen = {tuple(int(group.width) for group in network.groups)}
    chosen: list[tuple[int, ...]] = []
    while len(chosen) < count and network.groups:
        draw, lattice = _DRAWS[len(chosen) % len(_DRAWS)], lattices[len(chosen) // len(_DRAWS) % 2]
        fresh = _fresh(random, network.groups, draw, lattice, seen)
        if fresh is None:
            break
        seen.add(fresh)
        chosen.append(fresh)
    return np.array(chosen, dtype=np.int64).reshape(len(chosen), len(network.groups))


def uniform(network: Network, share: float, *, granule: int = 8) -> tuple[int, ...]:
    """Return the widths of the network whose groups all have about this share of their units.

    Args:
        network: the traced network.
        share: in (0, 1].
        granule: as in `design`.
    """
    return _round(network.groups, np.full(len(network.groups), share), _lattice(network.groups, granule))


def _fresh(
    random: np.random.Generator,
    groups: tuple[ChannelGroup, ...],
    draw: _Draw,
    lattice: NDArray[np.int64],
    seen: set[tuple[int, ...]],
) -> tuple[int, ...] | None:
    """Return widths not seen before, or ``None`` where none is found, first by ``draw``, then independently."""
    for attempt in range(2 * _ATTEMPTS):
        fractions = (draw if attempt < _ATTEMPTS else _independent)(random, len(groups))
        widths = _without_blocks(random, groups, _round(groups, fractions, lattice))
        if widths not in seen:
            return widths
    return None


def _without_blocks(
    random: np.random.Generator, groups: tuple[ChannelGroup, ...], widths: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the widths, every second time without some of the blocks that can go, from one to all."""
    blocks = [column for column, group in enumerate(groups) if group.block]
    if not blocks or random.random() < _ALL_BLOCKS:
        return widths
    gone = random.choice(blocks, int(random.integers(1, len(blocks) + 1)), replace=False)
    return tuple(0 if column in gone else width for column, width in enumerate(widths))


def _round(
    groups: tuple[ChannelGroup, ...], fractions: NDArray[np.float64], lattice: NDArray[np.int64]
) -> tuple[int, ...]:
    """Return the nearest multiples of the lattice that each group allows; a fraction of 1 is the whole group."""
    whole = np.array([group.width for group in groups])
    least = np.array([_least(group) for group in groups])
    nearest = np.round(fractions * whole / lattice).astype(np.int64) * lattice
    nearest = np.where((fractions >= 1) | (nearest > whole), whole, nearest)
    return tuple(int(width) for width in np.clip(nearest, np.minimum(np.maximum(least, lattice), whole), whole))


def _lattice(groups: tuple[ChannelGroup, ...], granule: int) -> NDArray[np.int64]:
    """Return for each group the step of its widths: ``granule`` channels, halved until there are three levels."""
    steps = []
    for group in groups:
        step = granule // math.gcd(granule, group.channels)
        while step > 1 and group.width < 3 * step:
            step //= 2
        steps.append(int(np.lcm(step, group.multiple)))
    return np.array(steps, dtype=np.int64)


def _least(group: ChannelGroup) -> int:
    return -(-max(group.minimum, 1) // group.multiple) * group.multiple


def _corners(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    return random.choice([0.1, 0.25, 0.5, 0.75, 1.0], count)


def _scaled(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    return np.clip(random.normal(random.uniform(0.1, 1.0), 0.2, count), 0.0, 1.0)


def _near_full(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    fractions = np.ones(count)
    cut = random.choice(count, int(random.integers(1, max(count // 2, 1) + 1)), replace=False)
    fractions[cut] = random.uniform(0.1, 1.0, len(cut))
    return fractions


def _independent(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    return random.uniform(0.1, 1.0, count)


def _uniform_width(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    return np.full(count, random.uniform(0.1, 1.0))


_DRAWS: tuple[_Draw, ...] = (_corners, _scaled, _near_full, _independent, _uniform_width)
