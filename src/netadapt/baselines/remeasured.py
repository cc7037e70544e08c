"""Aim twice: measure what was proposed, and propose again from there, where the estimator has little left to err in.

For methods that reach the budget in one step, which may be a long way for an estimate. Wrapped around their
ChooseNumFilters by `adaptation/methods.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from netadapt.proposals import NumFilters, Proposal

Resources = Mapping[str, float]


class Remeasured:
    """ChooseNumFilters that lets another one see the measurement of its first proposal.

    Args:
        chooser: the other one; its proposals do not depend on the current network but for the scale of estimates.
        measure: returns the resources of the network of some widths, in canonical units.
    """

    def __init__(self, chooser: NumFilters, measure: Callable[[Mapping[str, int]], Resources]) -> None:
        self._chooser = chooser
        self._measure = measure

    def proposals(self, widths: Mapping[str, int], resources: Resources, constraint: Resources) -> list[Proposal]:
        """Return the second proposals; see `netadapt.proposals.NumFilters`."""
        found = self._chooser.proposals(widths, resources, constraint)
        if not found:
            return found
        measured = self._measure(found[0].widths)
        again = self._chooser.proposals(found[0].widths, measured, constraint)
        return again or found
