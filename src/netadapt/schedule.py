"""The resource reduction schedule: how far iteration i tightens the constraint (section 3.2 of the paper).

Called by `algorithm.py` once per iteration and resource, and before a run to say how long it will be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

#: a stretched schedule sums to this multiple of the distance, so that finitely many steps cover it
_STRETCH = 1.25
_MOST_ITERATIONS = 10_000


@dataclass(frozen=True)
class Schedule:
    """dR_i = max(dR_0 * decay^i, minimum).

    Attributes:
        first_step: dR_0, in the resource's unit (paper: 0.5 ms for the small MobileNetV1, 3.3 % of its latency).
        decay: factor per iteration, in (0, 1] (paper: 0.96).
        minimum: no step is smaller; 3 times the noise of a measurement, below which a step cannot be told from none.
    """

    first_step: float
    decay: float = 0.96
    minimum: float = 0.0

    def step(self, iteration: int) -> float:
        """Return dR of ``iteration`` (0 for the first)."""
        return max(self.first_step * self.decay**iteration, self.minimum)

    def total(self) -> float:
        """Return the sum of all steps before the minimum applies: dR_0 / (1 - decay)."""
        return math.inf if self.decay >= 1 else self.first_step / (1 - self.decay)

    def reaching(self, distance: float) -> Schedule:
        """Return this schedule, with a larger first step if its decaying steps could never cover ``distance``."""
        if self.total() > distance:
            return self
        return replace(self, first_step=_STRETCH * distance * (1 - self.decay))

    def iterations(self, distance: float) -> int:
        """Return how many steps cover ``distance`` if each saves exactly what it must."""
        covered = 0.0
        for iteration in range(_MOST_ITERATIONS):
            if covered >= distance:
                return iteration
            covered += self.step(iteration)
        return _MOST_ITERATIONS


def tighten(
    resources: Mapping[str, float],
    budget: Mapping[str, float],
    schedules: Mapping[str, Schedule],
    iteration: int,
    margins: Mapping[str, float],
    share: float = 1.0,
) -> tuple[dict[str, float], str]:
    """Return Con of Eq. 2, Con_j = max(Bud_j, Res_j - dR_ij), and the resource that was tightened.

    Only the resource relatively farthest from its budget is tightened; the others must not get worse than
    they are, or than their budget where that is looser.

    Args:
        resources: Res_j, measured.
        budget: Bud_j.
        schedules: by resource.
        iteration: i, from 0.
        margins: half-width of the confidence interval by resource: what the last step aims below the budget.
        share: of dR_ij, where a full step is too much for any proposal; never below the schedule's minimum.
    """
    above = [name for name in sorted(budget) if resources[name] > budget[name]]
    far = max(above, key=lambda name: resources[name] / budget[name])
    constraint = {name: max(budget[name], resources[name]) for name in budget}
    aim = budget[far] - margins.get(far, 0.0)
    reduction = max(share * schedules[far].step(iteration), schedules[far].minimum)
    constraint[far] = max(aim, resources[far] - reduction)
    return constraint, far
