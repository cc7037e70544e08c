"""Resources that are counted from the widths and need no measurement: MACs, parameters, file size.

They are estimators like the measured ones, exact (sigma 0) and with nothing to fit. Built by `build.py`; the file size
of a run is `adaptation/metering.py`'s, which knows what the platform's files hold beside the parameters.
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
_SMALLEST_MB = 1e-6  # a byte: what is left where more was folded away than a small network has


class Counted:
    """Counts one resource exactly.

    Args:
        network: the traced network.
        resource: ``macs``, ``parameters``, or ``size``: MB (10^6 bytes) of its parameters as float32.
        extra_mb: what a file holds beside them (the graph; less where norms are folded); counts in ``size`` only.

    Raises:
        BudgetError: ``resource`` cannot be counted.
    """

    def __init__(self, network: Network, resource: str, extra_mb: float = 0.0) -> None:
        if resource not in COUNTED:
            raise BudgetError(f'"{resource}" cannot be counted; counted are {", ".join(COUNTED)}.')
        self._network = network
        self._resource = resource
        self._extra_mb = extra_mb

    def fit(self, widths: Widths, values: Values) -> None:
        """Do nothing: a count has nothing to learn."""

    def estimate(self, widths: Widths) -> tuple[Values, Values]:
        """Return the exact values and zeros, both ``(m,)``, for ``widths`` of shape ``(m, groups)``."""
        if self._resource == "macs":
            values = self._network.macs_of(widths).astype(np.float64)
        else:
            values = self._network.parameters_of(widths).astype(np.float64)
        if self._resource == "size":
            values = np.maximum(values * _BYTES_PER_PARAMETER / 1e6 + self._extra_mb, _SMALLEST_MB)
        return values, np.zeros(len(values))
