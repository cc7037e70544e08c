"""What guiding by MACs alone believes: every measured resource is in proportion to the multiply-accumulates.

The paper compares NetAdapt with itself guided this way (section 4.3). `build.py` makes one for ``estimator = "macs"``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from netadapt.resources.counted import Counted
from netadapt.resources.estimator import Values, Widths

if TYPE_CHECKING:
    from netadapt.network import Network


class MacsGuide:
    """An estimator that knows nothing of the platform but one factor.

    Args:
        network: the original.
    """

    def __init__(self, network: Network) -> None:
        self._macs = Counted(network, "macs")
        self._factor = 1.0

    def fit(self, widths: Widths, values: Values) -> None:
        """Learn the factor; see `Estimator`."""
        if len(values):
            self._factor = float(np.median(values / self._macs.estimate(widths)[0]))

    def estimate(self, widths: Widths) -> tuple[Values, Values]:
        """Return the factor times the MACs, without a doubt; see `Estimator`."""
        macs, _ = self._macs.estimate(widths)
        return self._factor * macs, np.zeros(len(macs))
