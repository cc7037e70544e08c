"""Uniform width: every group scaled by one factor (the width multiplier), the baseline in every report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from netadapt.network.structure import ChannelGroup
from netadapt.proposals import Proposal, judge, vector_of
from netadapt.resources.estimator import Estimator

_FACTORS = np.linspace(1.0, 0.0, 401)


def uniform_widths(groups: Sequence[ChannelGroup], *, multiple: int, minimum: int) -> NDArray[np.int64]:
    """Return the distinct networks of uniform width, the widest first.

    Args:
        groups: of the original network.
        multiple: widths are rounded to the nearest that has a multiple of so many channels.
        minimum: smallest number of channels (or the original, where that is smaller).

    Returns:
        ``(m, groups)``; the first row is the original.
    """
    full = np.array([group.width for group in groups], dtype=np.int64)
    step, least = np.array([group.grid(multiple, minimum) for group in groups], dtype=np.int64).reshape(-1, 2).T
    rounded = np.maximum(np.round(_FACTORS[:, None] * full / step) * step, least)
    rows = np.minimum(rounded, full).astype(np.int64)
    rows[0] = full
    return np.array(list(dict.fromkeys(map(tuple, rows.tolist()))), dtype=np.int64)


def widest_within(candidates: NDArray[np.int64], estimator: Estimator, limit: float) -> NDArray[np.int64] | None:
    """Return the row of ``candidates`` with the largest estimate not above ``limit``; ``None`` if all are above."""
    values, _ = estimator.estimate(candidates)
    within = np.flatnonzero(values <= limit)
    return candidates[within[np.argmax(values[within])]] if len(within) else None


class UniformChooser:
    """ChooseNumFilters of the width multiplier: one proposal, all groups scaled by one factor, cut from the original.

    Args:
        groups: of the original network, in the column order of the estimators.
        estimators: by resource.
        multiple, minimum: see `uniform_widths`.
    """

    def __init__(
        self, groups: Sequence[ChannelGroup], estimators: Mapping[str, Estimator], *, multiple: int, minimum: int
    ) -> None:
        self._groups, self._estimators = tuple(groups), dict(estimators)
        self._candidates = uniform_widths(groups, multiple=multiple, minimum=minimum)

    def proposals(
        self, widths: Mapping[str, int], resources: Mapping[str, float], constraint: Mapping[str, float]
    ) -> list[Proposal]:
        """Return the widest uniform network that should meet ``constraint``; see `netadapt.proposals.NumFilters`."""
        candidates = self._candidates
        current = vector_of(self._groups, widths)
        judged = judge(self._estimators, candidates, current, resources, constraint)
        rows = np.flatnonzero(judged.feasible)
        if not len(rows):
            return []
        # a staircase may make a wider network the cheaper one: the widest of those within
        row = int(rows[candidates[rows].sum(axis=1).argmax()])
        return [judged.proposal(row, self._groups, candidates[0])]
