"""One-shot: the widths of all groups at once, from what cutting each group alone costs (DESIGN, sections 5 and 9).

The loss of every group at a few widths is measured once, without any training; then the combination with the least
loss that the estimators let pass is looked for by annealed exchanges between groups. `OneShotChooser` is a
ChooseNumFilters for `algorithm.py` whose proposals are cut from the original network, not from the last step's.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from netadapt.baselines.uniform import UniformChooser
from netadapt.errors import NonFinite
from netadapt.network.importance import FilterChoice
from netadapt.network.structure import ChannelGroup
from netadapt.proposals import Proposal, Vector, allowed_widths, judge
from netadapt.resources.estimator import Estimator

_log = logging.getLogger("netadapt")
Losses = NDArray[np.float64]

#: parts of a group's width at which its loss is measured, besides its narrowest allowed width
_SHARES = (0.75, 0.5, 0.375, 0.25)
#: networks that are annealed side by side, and the exchanges that each of them tries, per group
_CHAINS, _ROUNDS_PER_GROUP = 32, 80
#: losses of single groups do not simply add up: their sum, and a sum that shuns deep cuts of one group
_POWERS = (1.0, 2.0)


@dataclass(frozen=True)
class LossCurve:
    """By how much the loss grows when one group alone is narrowed.

    Attributes:
        widths: at which it was measured, rising; the last is the original width.
        losses: above that of the original network; 0 at the last.
    """

    widths: tuple[int, ...]
    losses: tuple[float, ...]

    def at(self, widths: Vector) -> Losses:
        """Return the growth of the loss at ``widths``: never falling as the group narrows, linear in between."""
        falling = np.maximum.accumulate(np.maximum(self.losses, 0.0)[::-1])[::-1]
        return np.interp(widths, self.widths, falling)


def sampled_widths(group: ChannelGroup, multiple: int, minimum: int) -> list[int]:
    """Return the widths at which the loss of ``group`` is measured, the widest first; at most five."""
    allowed = allowed_widths(group, group.width, multiple, minimum)
    if not len(allowed):
        return []
    wanted = np.array([*(share * group.width for share in _SHARES), allowed[0]])
    nearest = allowed[np.abs(allowed[None] - wanted[:, None]).argmin(axis=1)]
    return sorted(set(nearest.tolist()), reverse=True)


def loss_curve(
    group: ChannelGroup, widths: Sequence[int], filters: FilterChoice, loss: Callable[[nn.Module], float], start: float
) -> LossCurve:
    """Measure the loss curve of a group: shrink it alone, re-fit, score, nothing is trained.

    Args:
        group: to be narrowed.
        widths: see `sampled_widths`.
        filters: prepared with the start network.
        loss: of a module, on the selection split.
        start: loss of the start network.

    Returns:
        The curve down to the last width whose loss is finite.
    """
    losses: dict[int, float] = {}
    for width in sorted(widths, reverse=True):
        try:
            losses[width] = loss(filters.apply({group.name: filters.choose(group.name, width)})) - start
        except NonFinite as error:
            _log.warning("%s is not narrowed to %d or less: %s", group.name, width, error)
            break
        if not math.isfinite(losses[width]):
            _log.warning("%s is not narrowed to %d or less: the loss is %g", group.name, width, losses.pop(width))
            break
    rising = sorted(losses)
    return LossCurve((*rising, group.width), (*(losses[width] for width in rising), 0.0))


class OneShotChooser:
    """ChooseNumFilters for all groups at once.

    Args:
        groups: of the original network, in the column order of the estimators.
        estimators: by resource.
        curves: by group; groups without one keep their width.
        multiple, minimum: see `netadapt.proposals.allowed_widths`.
        seed: of the annealing.
    """

    def __init__(
        self,
        groups: Sequence[ChannelGroup],
        estimators: Mapping[str, Estimator],
        curves: Mapping[str, LossCurve],
        *,
        multiple: int,
        minimum: int,
        seed: int,
    ) -> None:
        self._groups = tuple(groups)
        self._estimators = dict(estimators)
        self._uniform = UniformChooser(groups, estimators, multiple=multiple, minimum=minimum)
        self._seed = seed
        self._options: list[Vector] = []
        self._losses: list[Losses] = []
        for group in groups:
            curve = curves.get(group.name)
            curve = curve or LossCurve((group.width,), (0.0,))
            allowed = allowed_widths(group, group.width, multiple, minimum)
            options = np.array([*allowed[allowed >= curve.widths[0]], group.width], dtype=np.int64)
            self._options.append(options)
            self._losses.append(curve.at(options))

    def proposals(
        self, widths: Mapping[str, int], resources: Mapping[str, float], constraint: Mapping[str, float]
    ) -> list[Proposal]:
        """Return the best combinations and the uniform network that meet ``constraint``, cut from the original.

        Args:
            widths: of the current network, of which ``resources`` were measured.
            resources: see `netadapt.proposals.NumFilters`.
            constraint: see `netadapt.proposals.NumFilters`.

        Returns:
            At most three: the least sum of losses, one that shuns deep cuts, and uniform width, so that a surrogate
            that fails is found out when they are scored. Empty if not even the narrowest network is estimated to meet
            the constraint.
        """
        current = np.array([widths[group.name] for group in self._groups], dtype=np.int64)

        def feasible(rows: Vector) -> NDArray[np.bool_]:
            return judge(self._estimators, rows, current, resources, constraint).feasible

        uniform = self._uniform.proposals(widths, resources, constraint)
        first = self._rows_of(uniform[0].widths) if uniform else np.zeros(len(self._groups), dtype=np.int64)
        if not feasible(self._widths(first[None]))[0]:
            return []
        found = [self._widths(self._anneal(first, feasible, power)) for power in _POWERS]
        candidates = np.array(list(dict.fromkeys(tuple(row.tolist()) for row in found)), dtype=np.int64)
        judged = judge(self._estimators, candidates, current, resources, constraint)
        full = np.array([group.width for group in self._groups])
        combined = [judged.proposal(row, self._groups, full) for row in range(len(candidates))]
        return combined + [proposal for proposal in uniform if proposal.widths not in [c.widths for c in combined]]

    def _rows_of(self, widths: Mapping[str, int]) -> Vector:
        """Return for each group the index of the widest option that is not above its width."""
        pairs = zip(self._groups, self._options, strict=True)
        return np.array([max(0, int(np.searchsorted(o, widths[g.name], "right")) - 1) for g, o in pairs])

    def _widths(self, indices: Vector) -> Vector:
        """Return the widths of indices into the options, both ``(..., groups)``."""
        columns = [options[indices[..., k]] for k, options in enumerate(self._options)]
        return np.stack(columns, axis=-1)

    def _anneal(self, first: Vector, feasible: Callable[[Vector], NDArray[np.bool_]], power: float) -> Vector:
        """Return the indices of the best combination that exchanges between groups find, starting from ``first``."""
        random = np.random.default_rng(self._seed)
        costs = [losses**power for losses in self._losses]
        most = np.array([len(options) - 1 for options in self._options])

        def cost(chains: Vector) -> Losses:
            total: Losses = np.stack([costs[k][chains[:, k]] for k in range(len(costs))]).sum(axis=0)
            return total

        chains = np.repeat(first[None], _CHAINS, axis=0)
        values = cost(chains)
        best, lowest = first, float(values[0])
        warmth, rounds = lowest / len(first), _ROUNDS_PER_GROUP * len(first)
        for round_ in range(rounds):
            temperature = warmth * 10.0 ** (-4 * round_ / rounds)
            moved = np.clip(chains + _exchanges(random, chains.shape, most), 0, most)
            gain = values - cost(moved)
            hot = random.random(_CHAINS) < np.exp(np.minimum(0.0, gain) / max(temperature, 1e-12))
            rows = np.flatnonzero(hot & (moved != chains).any(axis=1))
            rows = rows[feasible(self._widths(moved[rows]))] if len(rows) else rows
            chains[rows] = moved[rows]
            values = cost(chains)
            leader = int(values.argmin())
            if values[leader] < lowest:
                best, lowest = chains[leader].copy(), float(values[leader])
        return self._filled(best, most, feasible)

    def _filled(self, indices: Vector, most: Vector, feasible: Callable[[Vector], NDArray[np.bool_]]) -> Vector:
        """Widen what can be widened for free: losses cannot rise, and a staircase may leave room."""
        while True:
            wider = indices + np.eye(len(indices), dtype=np.int64)
            wider = wider[(wider <= most).all(axis=1)]
            fits = wider[feasible(self._widths(wider))] if len(wider) else wider
            if not len(fits):
                return indices
            indices = fits[0]


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
