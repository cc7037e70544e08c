"""ChooseNumFilters: which widths a proposal may have under a constraint, all groups in one vectorised estimate.

Called by the run once per iteration; `baselines/` has others with the same face. ChooseWhichFilters lives in
`network/importance.py` and `network/refit.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from netadapt.network.structure import ChannelGroup
from netadapt.resources.estimator import Estimator

Vector = NDArray[np.int64]
#: relative slack of a comparison with the constraint: estimates are sums of floats
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Proposal:
    """Widths of the network of one iteration with one or more groups shrunk so that the constraint is met.

    Attributes:
        groups: the groups that were shrunk.
        widths: of all groups.
        estimated: resource -> estimate at these widths, in the resource's unit.
        sigma: resource -> standard error of the estimate.
    """

    groups: tuple[str, ...]
    widths: Mapping[str, int]
    estimated: Mapping[str, float]
    sigma: Mapping[str, float]

    @property
    def name(self) -> str:
        """Return the shrunk groups joined by ``+``."""
        return "+".join(self.groups)


def allowed_widths(group: ChannelGroup, current: int, multiple: int, minimum: int) -> Vector:
    """Return the widths that ``group`` may be shrunk to, in rising order, all below ``current``.

    Args:
        group: whose own ``multiple`` and ``minimum`` hold too; 0 is allowed where a whole block can go with it.
        current: its width now.
        multiple: granularity of the search in channels (8: kernels are slower for 7 channels than for 8).
        minimum: smallest number of channels that the search may leave.
    """
    step, least = group.grid(multiple, minimum)
    none = [0] if group.block and current else []
    return np.array([*none, *range(least, current, step)], dtype=np.int64)


def vector_of(groups: Sequence[ChannelGroup], widths: Mapping[str, int]) -> Vector:
    """Return widths by name as ``(groups,)``, in the column order of the estimators."""
    return np.array([widths[group.name] for group in groups], dtype=np.int64)


class NumFilters(Protocol):
    """ChooseNumFilters: the proposals of one iteration."""

    def proposals(
        self, widths: Mapping[str, int], resources: Mapping[str, float], constraint: Mapping[str, float]
    ) -> list[Proposal]:
        """Return proposals that should meet ``constraint``; none where that is not possible.

        Args:
            widths: of the current network.
            resources: measured, of the current network; estimates are scaled so that they agree there.
            constraint: resource -> upper limit, for each budgeted resource.
        """
        ...


class Chooser:
    """ChooseNumFilters of Algorithm 1 for one network.

    Args:
        groups: in the column order of the estimators.
        estimators: by resource.
        multiple, minimum: see `allowed_widths`.
        sigmas: standard errors on top of an estimate; 0 for shares of a step, of which only the sum must be safe.
    """

    def __init__(
        self,
        groups: Sequence[ChannelGroup],
        estimators: Mapping[str, Estimator],
        *,
        multiple: int,
        minimum: int,
        sigmas: float = 1.0,
    ) -> None:
        self.groups = tuple(groups)
        self.estimators = dict(estimators)
        self.multiple = multiple
        self.minimum = minimum
        self.sigmas = sigmas

    def proposals(
        self, widths: Mapping[str, int], resources: Mapping[str, float], constraint: Mapping[str, float]
    ) -> list[Proposal]:
        """Return for each group the proposal with the largest width that meets ``constraint``; else pairs of groups.

        Latency is not monotone in width, so every allowed width is looked at, and the largest taken.

        Args:
            widths: of the current network.
            resources: measured, of the current network; estimates are scaled so that they agree there.
            constraint: resource -> upper limit, for each budgeted resource.

        Returns:
            At most one proposal per group; if no single group can meet the constraint, at most one per pair;
            empty if no pair can either.
        """
        current = vector_of(self.groups, widths)
        choices = [
            allowed_widths(g, int(w), self.multiple, self.minimum) for g, w in zip(self.groups, current, strict=True)
        ]
        found = self._singles(current, choices, resources, constraint)
        return found or list(self._pairs(current, choices, resources, constraint))

    def _singles(
        self, current: Vector, choices: list[Vector], resources: Mapping[str, float], constraint: Mapping[str, float]
    ) -> list[Proposal]:
        """Evaluate all groups and widths in one call of each estimator."""
        columns = np.repeat(np.arange(len(choices)), [len(c) for c in choices])
        if not len(columns):
            return []
        candidates = np.repeat(current[None], len(columns), axis=0)
        candidates[np.arange(len(columns)), columns] = np.concatenate(choices)
        judged = judge(self.estimators, candidates, current, resources, constraint, self.sigmas)
        found = []
        for column in range(len(choices)):
            rows = np.flatnonzero(judged.feasible & (columns == column))
            if len(rows):
                row = rows[np.argmax(candidates[rows, column])]
                found.append(judged.proposal(int(row), self.groups, current))
        return found

    def _pairs(
        self, current: Vector, choices: list[Vector], resources: Mapping[str, float], constraint: Mapping[str, float]
    ) -> Iterator[Proposal]:
        """Yield for each pair of groups the feasible widths that keep the most units (ties: larger first width)."""
        for first, second in combinations(range(len(choices)), 2):
            grid = np.stack(np.meshgrid(choices[first], choices[second], indexing="ij"), axis=-1).reshape(-1, 2)
            if not len(grid):
                continue
            candidates = np.repeat(current[None], len(grid), axis=0)
            candidates[:, [first, second]] = grid
            judged = judge(self.estimators, candidates, current, resources, constraint, self.sigmas)
            rows = np.flatnonzero(judged.feasible)
            if len(rows):
                row = max(rows, key=lambda r: (int(grid[r].sum()), int(grid[r, 0])))
                yield judged.proposal(int(row), self.groups, current)


def partial(resources: Mapping[str, float], constraint: Mapping[str, float], groups_per_step: int) -> dict[str, float]:
    """Return the constraint of one of several groups that make a step together: its share of each reduction.

    Args:
        resources: of the current network.
        constraint: of the whole step.
        groups_per_step: how many groups share it.
    """
    reductions = {name: max(0.0, resources[name] - limit) for name, limit in constraint.items()}
    return {name: max(constraint[name], resources[name] - cut / groups_per_step) for name, cut in reductions.items()}


def merge(
    ranked: Sequence[Proposal],
    groups: Sequence[ChannelGroup],
    estimators: Mapping[str, Estimator],
    widths: Mapping[str, int],
    resources: Mapping[str, float],
    constraint: Mapping[str, float],
) -> Proposal:
    """Return as few of the first proposals as meet ``constraint`` together, as one proposal; all, if none do.

    Args:
        ranked: proposals that each shrink groups of the current network, the best first; at least one.
        groups: in the column order of the estimators.
        estimators: by resource.
        widths: of the current network.
        resources: measured, of the current network.
        constraint: resource -> upper limit.
    """
    current = vector_of(groups, widths)
    each = np.array([vector_of(groups, proposal.widths) for proposal in ranked])
    unions = np.minimum.accumulate(each, axis=0)
    judged = judge(estimators, unions, current, resources, constraint)
    enough = np.flatnonzero(judged.feasible)
    row = int(enough[0]) if len(enough) else len(unions) - 1
    return judged.proposal(row, groups, current)


def gentlest(proposals: Sequence[Proposal], widths: Mapping[str, int], most: int) -> list[Proposal]:
    """Return at most ``most`` proposals, in their order: those that take the smallest share of the groups they shrink.

    Args:
        proposals: to choose from.
        widths: of the current network.
        most: how many may stay; pairs of groups are many more than groups.
    """

    def taken(proposal: Proposal) -> float:
        return sum(1 - proposal.widths[group] / widths[group] for group in proposal.groups if widths[group])

    stay = sorted(range(len(proposals)), key=lambda number: (taken(proposals[number]), number))[:most]
    return [proposals[number] for number in sorted(stay)]


@dataclass(frozen=True)
class Judged:
    """What the estimators say of some candidates.

    Attributes:
        candidates: ``(m, groups)`` widths.
        feasible: ``(m,)``, which meet the constraint with estimate plus one sigma.
        estimated, sigma: resource -> ``(m,)``.
    """

    candidates: Vector
    feasible: NDArray[np.bool_]
    estimated: Mapping[str, NDArray[np.float64]]
    sigma: Mapping[str, NDArray[np.float64]]

    def proposal(self, row: int, groups: Sequence[ChannelGroup], before: Vector) -> Proposal:
        """Return the candidate of a row as a proposal that shrinks what is narrower than ``before`` ``(groups,)``."""
        return Proposal(
            groups=tuple(groups[column].name for column in np.flatnonzero(self.candidates[row] < before).tolist()),
            widths={group.name: int(w) for group, w in zip(groups, self.candidates[row], strict=True)},
            estimated={name: float(values[row]) for name, values in self.estimated.items()},
            sigma={name: float(values[row]) for name, values in self.sigma.items()},
        )


def judge(
    estimators: Mapping[str, Estimator],
    candidates: Vector,
    current: Vector,
    resources: Mapping[str, float],
    constraint: Mapping[str, float],
    sigmas: float = 1.0,
) -> Judged:
    """Say which candidates meet the constraint with estimate plus one sigma, or get no worse where it is met already.

    Picking the best of thousands favours optimistic errors, hence the sigma. Estimates are scaled to agree with
    the measurement of the current network: what counts is the difference from it.

    Args:
        estimators: by resource.
        candidates: ``(m, groups)`` widths.
        current: ``(groups,)`` widths of the current network.
        resources: measured, of the current network.
        constraint: resource -> upper limit.
        sigmas: so many standard errors on top of the estimate, where one is not right.
    """
    feasible = np.ones(len(candidates), dtype=np.bool_)
    estimated, sigma = {}, {}
    for name, limit in constraint.items():
        values, errors = estimators[name].estimate(np.concatenate([current[None], candidates]))
        scale = resources[name] / values[0]
        estimated[name], sigma[name] = values[1:] * scale, errors[1:] * scale
        meets = estimated[name] + sigmas * sigma[name] <= limit * (1 + _ROUNDING)
        if resources[name] <= limit:  # by measurement: what is not expected to cost more needs no safety
            meets |= estimated[name] <= resources[name] * (1 + _ROUNDING)
        feasible &= meets
    return Judged(candidates, feasible, estimated, sigma)
