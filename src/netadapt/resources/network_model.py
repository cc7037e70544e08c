"""Predicts a measured resource from measured whole networks (DESIGN section 8); the default estimator.

It needs nothing from a runtime but values of some networks. Built by `build.py`; asked by the algorithm for thousands
of candidates an iteration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import nnls

from netadapt.errors import MeasurementUnusable, UsageError
from netadapt.resources.estimator import Values, Widths
from netadapt.resources.features import BASELINE, MACS, NETWORK_COLUMNS, Features, Floats
from netadapt.resources.process import Hyperparameters, Process

if TYPE_CHECKING:
    from netadapt.network import Network

VECTORS = (1, 4, 8, 16, 32)  #: vector widths to choose from
LENGTHS = (0.35, 0.8)  #: length scales of the smooth columns to choose from
ENOUGH = 10  #: with fewer networks nothing is chosen: values are taken as proportional to MACs, then corrected
_UNCHOSEN = (8, 0.8)  # vector width and length scale until there is enough to choose
_SMALLEST_SIGMA = 1e-3  # no estimate is surer than this, relative
_AT_ONCE = 384  # candidates whose columns fit into the processor's cache
_SMALLEST_FACTOR = 0.3  # the process may not scale the baseline below this


@dataclass(frozen=True)
class _Choice:
    """What is fixed between two choices.

    Attributes:
        features: computes the columns.
        baseline: non-negative weights of the network-wide columns: the expected value before correction.
        hyperparameters: of the process that corrects it.
        networks: how many networks the choice was made with.
    """

    features: Features
    baseline: Floats
    hyperparameters: Hyperparameters
    networks: int


class NetworkModel:
    """Predicts one resource: a non-negative baseline times one plus a Gaussian process over `Features`.

    The baseline makes errors relative (it stands in for weighting each row by one over its value, and also holds for
    networks that were not measured).

    Args:
        network: the traced network.

    Attributes:
        networks_measured: number of networks it was fitted to.
        build_seconds: what measuring them took; ``None`` if nobody said.
        left_out_error: mean relative error of each network predicted by the others, at the last `fit`.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._choice: _Choice | None = None
        self._process: Process | None = None
        self.networks_measured = 0
        self.build_seconds: float | None = None
        self.left_out_error: float | None = None

    @property
    def vector(self) -> int | None:
        """Return the vector width that channels are padded to; ``None`` before `fit`."""
        return self._choice.features.vector if self._choice else None

    def fit(self, widths: Widths, values: Values) -> None:
        """Learn from measured networks.

        The first call with at least `ENOUGH` networks chooses vector width and hyperparameters (about 2 s); later
        calls keep them and only solve again (milliseconds), unless the number of networks has doubled since.

        Args:
            widths: ``(n, groups)``.
            values: ``(n,)`` positive, in the resource's unit.

        Raises:
            MeasurementUnusable: no network, or a value that is not a positive finite number.
        """
        widths, values = np.asarray(widths, dtype=np.int64), np.asarray(values, dtype=np.float64)
        _check(widths, values, len(self._network.groups))
        if self._choice is None or len(values) < ENOUGH or len(values) >= 2 * self._choice.networks:
            self._choice = self._choose(widths, values)
        self._process, residuals = _condition(self._choice, widths, values)
        self.left_out_error = float(np.mean(np.abs(residuals)))
        self.networks_measured = len(values)

    def estimate(self, widths: Widths) -> tuple[Values, Values]:
        """Return expected values and their standard errors, both ``(m,)``.

        The standard error is that of the expectation (what the model does not know); the noise of one measurement is
        not in it.

        Args:
            widths: ``(m, groups)``.

        Raises:
            UsageError: nothing has been fitted yet.
        """
        if self._choice is None or self._process is None:
            raise UsageError("NetworkModel: asked for an estimate before any data; call fit(widths, values) first.")
        widths = np.asarray(widths, dtype=np.int64)
        pieces = [
            _estimate(self._choice, self._process, widths[start : start + _AT_ONCE])
            for start in range(0, max(len(widths), 1), _AT_ONCE)
        ]
        values, sigmas = zip(*pieces, strict=True)
        return np.concatenate(values), np.concatenate(sigmas)

    def parts(self, widths: Widths) -> dict[str, float]:
        """Return the share of each layer in the estimate of one network, by the layer's name.

        The shares follow from the baseline: rates of the whole network for arithmetic, weights and activations, all
        scaled to the estimate. What belongs to no layer (a constant, the peak) is left out, so they sum to less.

        Args:
            widths: ``(groups,)``.

        Raises:
            UsageError: nothing has been fitted yet.
        """
        value = float(self.estimate(np.asarray(widths)[None])[0][0])
        assert self._choice is not None
        features, baseline = self._choice.features, self._choice.baseline
        expected = float(features(np.asarray(widths, dtype=np.int64)[None])[0][0, : len(baseline)] @ baseline)
        columns = features.by_layer(np.asarray(widths, dtype=np.int64))
        return {name: float(column @ baseline) * value / expected for name, column in columns.items()}

    def _choose(self, widths: Widths, values: Values) -> _Choice:
        if len(values) < ENOUGH:
            features = Features(self._network, *_UNCHOSEN)
            baseline = _proportional_to_macs(features(widths)[0], values)
            return _Choice(features, baseline, Hyperparameters.prior(features.blocks), len(values))
        candidates = [self._candidate(vector, length, widths, values) for vector in VECTORS for length in LENGTHS]
        return min(candidates, key=lambda pair: pair[0])[1]

    def _candidate(self, vector: int, length: float, widths: Widths, values: Values) -> tuple[float, _Choice]:
        """Return the leave-one-out error of one vector width and length scale, and the choice."""
        features = Features(self._network, vector, length)
        baseline = _non_negative(features(widths)[0], values)
        choice = _Choice(features, baseline, Hyperparameters.prior(features.blocks), len(values))
        process, _ = _condition(choice, widths, values, choose=True)
        choice = _Choice(features, baseline, process.hyperparameters, len(values))
        return float(np.mean(np.abs(process.leave_one_out()))), choice


def _estimate(choice: _Choice, process: Process, widths: Widths) -> tuple[Values, Values]:
    scale, linear, position = _relative(choice, widths)
    mean, variance = process.predict(linear, position)
    expected, factor = scale.astype(np.float64), np.maximum(1 + mean, _SMALLEST_FACTOR)
    return expected * factor, expected * np.maximum(np.sqrt(variance), _SMALLEST_SIGMA * factor)


def _condition(choice: _Choice, widths: Widths, values: Values, *, choose: bool = False) -> tuple[Process, Values]:
    """Return the process given measured networks, and its leave-one-out errors relative to the values."""
    scale, linear, position = _relative(choice, widths)
    targets = values / scale - 1
    hyperparameters = None if choose else choice.hyperparameters
    process = Process(linear, choice.features.block_of_column, position, targets, hyperparameters)
    return process, process.leave_one_out() * scale / values


def _relative(choice: _Choice, widths: Widths) -> tuple[Floats, Floats, Floats]:
    """Return the baseline, the columns relative to it, and the position."""
    linear, position = choice.features(widths)
    scale = linear[:, : len(NETWORK_COLUMNS)] @ choice.baseline
    original = float(choice.baseline.sum())  # every column of the original network is one (or zero)
    linear *= (original / scale)[:, None]
    return scale, linear, position


def _non_negative(linear: Floats, values: Values) -> Floats:
    """Return non-negative weights of the network-wide columns that fit best in relative error."""
    columns = list(BASELINE)
    weights, _ = nnls(linear[:, columns] / values[:, None], np.ones(len(values)))
    baseline = np.zeros(len(NETWORK_COLUMNS), dtype=np.float32)
    baseline[columns] = weights
    return baseline + _proportional_to_macs(linear, values) * 1e-3  # positive for every network


def _proportional_to_macs(linear: Floats, values: Values) -> Floats:
    """Return the baseline for little data: values proportional to MACs, with a small constant so that none is zero."""
    shape = np.zeros(len(NETWORK_COLUMNS), dtype=np.float32)
    shape[0], shape[MACS] = 0.02, 0.98
    expected = linear[:, : len(NETWORK_COLUMNS)] @ shape
    return np.asarray(shape * np.exp(np.mean(np.log(values / expected))))


def _check(widths: Widths, values: Values, groups: int) -> None:
    if widths.ndim != 2 or widths.shape[1] != groups or len(widths) != len(values):
        raise UsageError(
            f"NetworkModel: widths have shape {widths.shape} and values {values.shape}; "
            f"expected (n, {groups}) and (n,), one column per channel group."
        )
    if len(values) == 0 or not np.all(np.isfinite(values)) or np.any(values <= 0):
        raise MeasurementUnusable(
            f"NetworkModel: {len(values)} values, of which {int(np.sum(~(values > 0)))} are not positive; every "
            f"measured value must be a positive finite number. Measure again."
        )
