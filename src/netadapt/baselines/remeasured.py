"""Aim again: measure what was proposed, and propose anew from there, where the estimator has little left to err in.

For methods that reach the budget in one step, which may be a long way for an estimate. Wrapped around their
ChooseNumFilters by `adaptation/methods.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from netadapt.proposals import NumFilters, Proposal

Resources = Mapping[str, float]
#: after so many measurements what is left is noise
_MEASUREMENTS = 3


class Remeasured:
    """ChooseNumFilters that lets another one see the measurement of its first proposal.

    Args:
        chooser: the other one; its proposals are cut from the original network, wherever the current one is.
        measure: returns the resources of the network of some widths, in canonical units.
        original: the widths from which it is a long way; from a step's network, measured end to end, it is not.
    """

    def __init__(
        self,
        chooser: NumFilters,
        measure: Callable[[Mapping[str, int]], Resources],
        original: Mapping[str, int],
    ) -> None:
        self._chooser = chooser
        self._measure = measure
        self._original = dict(original)

    def proposals(self, widths: Mapping[str, int], resources: Resources, constraint: Resources) -> list[Proposal]:
        """Return the last proposals, once the first of them stays the same; see `netadapt.proposals.NumFilters`."""
        found = self._chooser.proposals(widths, resources, constraint)
        far = bool(found) and dict(widths) == self._original
        for _ in range(_MEASUREMENTS if far else 0):
            anchor = found[0].widths
            again = self._chooser.proposals(anchor, self._measure(anchor), constraint)
            if not again or again[0].widths == anchor:
                break
            found = again
        return found
