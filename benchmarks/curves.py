"""Accuracy against latency as a curve, what two curves say of each other, and the interval of what they say.

Latency is the ratio to the original network in the same window of time. A curve goes through the points it is given,
at least one, and nothing is known outside them; `outcomes.py` draws the curves from the results of the cells and says
where they end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

LEVEL = 0.95


@dataclass(frozen=True)
class Curve:
    """Accuracy against latency, linear between the points over the logarithm of the latency.

    Attributes:
        ratios: latency ratios, rising, ``(points,)``.
        accuracies: 0..1, ``(points,)``.
    """

    ratios: Values
    accuracies: Values

    @classmethod
    def through(cls, points: Iterable[tuple[float, float]]) -> Curve:
        """Return the curve through points of ratio and accuracy, in any order."""
        ordered = np.array(sorted(points), dtype=np.float64)
        return cls(ordered[:, 0], ordered[:, 1])

    def accuracy_at(self, ratio: float) -> float:
        """Return the accuracy at a latency; NaN outside the curve."""
        if not self.ratios[0] <= ratio <= self.ratios[-1]:
            return float("nan")
        return float(np.interp(np.log(ratio), np.log(self.ratios), self.accuracies))

    def ratio_at(self, accuracy: float) -> float:
        """Return the least latency with this accuracy or a higher one; NaN outside the curve.

        Noise may make a faster network the more accurate one; the slower then counts with the accuracy of the faster.
        """
        best = np.maximum.accumulate(self.accuracies)
        if not best[0] <= accuracy <= best[-1]:
            return float("nan")
        after = int(np.searchsorted(best, accuracy))
        if after == 0 or best[after] == accuracy:
            return float(self.ratios[after])
        share = (accuracy - best[after - 1]) / (best[after] - best[after - 1])
        low, high = np.log(self.ratios[after - 1 : after + 1])
        return float(np.exp(low + share * (high - low)))


def speedup(ours: Curve, theirs: Curve, accuracy: float) -> float:
    """Return how many times faster ``ours`` is at equal or higher accuracy; NaN outside either curve."""
    return theirs.ratio_at(accuracy) / ours.ratio_at(accuracy)


def gain(ours: Curve, theirs: Curve, ratio: float) -> float:
    """Return by how much ``ours`` is more accurate at equal latency, 0..1; NaN outside either curve."""
    return ours.accuracy_at(ratio) - theirs.accuracy_at(ratio)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval.

    Attributes:
        median: of the values that were put together; the value itself where it is one.
        low, high: ends of the bootstrap interval.
        inside: share of the replicates that were inside the curves, 0..1, the mean over the parts of the median. Those
            outside are censored: below 1 the interval is narrower than the truth.
    """

    median: float
    low: float
    high: float
    inside: float

    def to_json(self) -> dict[str, float]:
        """Return the numbers, rounded to what they are worth."""
        return {key: round(getattr(self, key), 5) for key in ("median", "low", "high", "inside")}


def estimate(values: Values) -> Estimate | None:
    """Return the estimate that replicates give: the first row is the data as measured, the others are resampled.

    Args:
        values: ``(1 + replicates, parts)``; NaN where a part is outside the curves. The median is over the parts that
            are inside in the data as measured; the others do not count at all, not in the share inside either.

    Returns:
        ``None`` if no part of the data as measured is inside.
    """
    measured = np.isfinite(values[0])
    if not measured.any():
        return None
    inside = [row[np.isfinite(row)] for row in values[:, measured]]
    medians = np.array([np.median(row) for row in inside if len(row)])
    low, high = np.quantile(medians[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(medians) > 1 else medians[[0, 0]]
    share = np.isfinite(values[1:, measured]).mean() if len(values) > 1 else 1.0
    return Estimate(float(medians[0]), float(low), float(high), float(share))
