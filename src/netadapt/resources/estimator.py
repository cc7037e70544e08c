"""What an estimator is: it predicts a resource of a network from its widths, with its own uncertainty."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Widths = NDArray[np.int64]
Values = NDArray[np.float64]


class Estimator(Protocol):
    """Predicts one resource from widths; columns are ``network.groups`` in order."""

    def fit(self, widths: Widths, values: Values) -> None:
        """Learn from measured networks.

        Args:
            widths: ``(n, groups)``.
            values: ``(n,)`` measured values in the resource's unit.
        """
        ...

    def estimate(self, widths: Widths) -> tuple[Values, Values]:
        """Return expected values and their standard errors, both ``(m,)``, for ``widths`` of shape ``(m, groups)``."""
        ...
