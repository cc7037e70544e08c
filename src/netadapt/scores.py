"""How well a network does on images, and how surely: `Score`, `accuracy_error`."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """How well a network does on one split.

    Attributes:
        metric: higher is better, in 0..1, e.g. top-1 accuracy or mean IoU; reports show it in percent.
        loss: lower is better; breaks ties between equal metrics.
        count: number of independent samples that an accuracy was taken on; ``None`` if unknown, or for other metrics.
        name: of the metric, as reports call it.
        standard_error: of the metric, where the task knows it; for an accuracy it follows from ``count``.
    """

    metric: float
    loss: float
    count: int | None = None
    name: str = "accuracy"
    standard_error: float | None = None

    @property
    def error(self) -> float | None:
        """Standard error of the metric: the task's own, or that of an accuracy; ``None`` if neither is known."""
        return accuracy_error(self.metric, self.count) if self.standard_error is None else self.standard_error


def accuracy_error(accuracy: float | None, images: int | None) -> float | None:
    """Return the standard error of an accuracy on independent images; ``None`` where it cannot be known.

    Args:
        accuracy: 0..1; of a metric outside, which is no share of images, nothing is known.
        images: how many.
    """
    if accuracy is None or not images or not 0 <= accuracy <= 1:
        return None
    return math.sqrt(accuracy * (1 - accuracy) / images)
