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
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from netadapt.baselines.annealing import Feasible, Losses, anneal, options
from netadapt.baselines.uniform import UniformChooser
from netadapt.errors import NonFinite
from netadapt.network.importance import FilterChoice
from netadapt.network.structure import ChannelGroup
from netadapt.proposals import Proposal, Vector, allowed_widths, judge, vector_of
from netadapt.resources.estimator import Estimator

_log = logging.getLogger("netadapt")

#: parts of a group's width at which its loss is measured, besides its narrowest allowed width
_SHARES = (0.75, 0.5, 0.375, 0.25)
#: exchanges that each of the annealed networks tries, per group
_ROUNDS_PER_GROUP = 80
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

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> LossCurve:
        """Return the curve that was written as `dataclasses.asdict` of it, from JSON."""
        return cls(tuple(data["widths"]), tuple(data["losses"]))

    def at(self, widths: Vector) -> Losses:
        """Return the growth of the loss at ``widths``: never falling as the group narrows, linear in between."""
        falling = np.maximum.accumulate(np.maximum(self.losses, 0.0)[::-1])[::-1]
        return np.interp(widths, self.widths, falling)


def sampled_widths(group: ChannelGroup, multiple: int, minimum: int) -> list[int]:
    """Return the widths at which the loss of ``group`` is measured, the widest first: at most five, and 0."""
    allowed = allowed_widths(group, group.width, multiple, minimum)
    if not len(allowed):
        return []
    narrowest = allowed[:2] if not allowed[0] else allowed[:1]  # without its block, and with it
    wanted = np.array([*(share * group.width for share in _SHARES), *narrowest])
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

    Attributes:
        options: the widths that each group may have, rising; none that is narrower than its curve reaches.
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
        self._curves = [curves.get(group.name, LossCurve((group.width,), (0.0,))) for group in groups]
        self.options = [
            options(group, multiple, minimum, least=curve.widths[0])
            for group, curve in zip(groups, self._curves, strict=True)
        ]

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
        current = vector_of(self._groups, widths)

        def feasible(rows: Vector) -> NDArray[np.bool_]:
            return judge(self._estimators, rows, current, resources, constraint).feasible

        uniform = self._uniform.proposals(widths, resources, constraint)
        wanted = [uniform[0].widths[group.name] if uniform else 0 for group in self._groups]
        pairs = zip(self.options, wanted, strict=True)
        first = np.array([o[max(0, int(np.searchsorted(o, width, "right")) - 1)] for o, width in pairs])
        if not feasible(first[None])[0]:
            first = np.array([o[0] for o in self.options])  # whole blocks may be gone there
        if not feasible(first[None])[0]:
            return []
        found = [self._anneal(first, feasible, power) for power in _POWERS]
        candidates = np.array(list(dict.fromkeys(tuple(row.tolist()) for row in found)), dtype=np.int64)
        judged = judge(self._estimators, candidates, current, resources, constraint)
        full = np.array([group.width for group in self._groups])
        combined = [judged.proposal(row, self._groups, full) for row in range(len(candidates))]
        return combined + [proposal for proposal in uniform if proposal.widths not in [c.widths for c in combined]]

    def _anneal(self, first: Vector, feasible: Feasible, power: float) -> Vector:
        """Return the feasible widths whose losses, each to the ``power``, have the least sum."""
        tables = [curve.at(choices) ** power for curve, choices in zip(self._curves, self.options, strict=True)]

        def cost(widths: Vector) -> Losses:
            columns = zip(tables, self.options, widths.T, strict=True)
            return np.asarray(sum(table[np.searchsorted(choices, column)] for table, choices, column in columns))

        rounds = _ROUNDS_PER_GROUP * len(first)
        best = anneal(self.options, first, cost, feasible, rounds=rounds, seed=self._seed)
        return self._filled(best, feasible)

    def _filled(self, widths: Vector, feasible: Feasible) -> Vector:
        """Widen what can be widened for free: losses cannot rise, and a staircase may leave room."""
        while True:
            wider = np.repeat(widths[None], len(widths), axis=0)
            for k, choices in enumerate(self.options):
                wider[k, k] = choices[min(int(np.searchsorted(choices, widths[k])) + 1, len(choices) - 1)]
            wider = wider[(wider > widths).any(axis=1)]
            fits = wider[feasible(wider)] if len(wider) else wider
            if not len(fits):
                return widths
            widths = fits[0]
