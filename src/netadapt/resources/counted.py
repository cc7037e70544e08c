"""Resources that are counted from the widths and need no measurement: MACs, parameters, file size.

They are estimators like the measured ones, exact (sigma 0) and with nothing to fit. Built by `build.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from netadapt.errors import BudgetError
from netadapt.resources.estimator import Values, Widths

if TYPE_CHECKING:
    from netadapt.network import Network

COUNTED = ("macs", "parameters", "size")  #: the resources that `Counted` knows
_BYTES_PER_PARAMETER = 4


class Counted:
    """Counts one resource exactly.

    Args:
        network: the traced network.
        resource: ``macs``, ``parameters``, or ``size``: MB (10^6 bytes) of its parameters as float32.

    Raises:
        BudgetError: ``resource`` cannot be counted.
    """

    def __init__(self, network: Network, resource: str) -> None:
        if resource not in COUNTED:
            raise BudgetError(f'"{resource}" cannot be counted; counted are {", ".join(COUNTED)}.')
        self._network = network
        self._resource = resource

    def fit(self, widths: Widths, values: Values) -> None:
        """Do nothing: a count has nothing to learn."""

    def estimate(self, widths: Widths) -> tuple[Values, Values]:
        """Return the exact values and zeros, both ``(m,)``, for ``widths`` of shape ``(m, groups)``."""
        if self._resource == "macs":
            values = self._network.macs_of(widths).astype(np.float64)
        else:
            values = self._network.parameters_of(widths).astype(np.float64)
        if self._resource == "size":
            values *= _BYTES_PER_PARAMETER / 1e6
        return values, np.zeros(len(values))
