"""Tells how far an estimator can be trusted: predicted against measured on networks that it has not seen.

Called by ``netadapt estimator verify`` and by the report. The truth is taken from more sessions than the estimator's
data, all networks in one window, because a machine drifts by 1 to 3 % in minutes (DESIGN section 8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

from netadapt.errors import UsageError
from netadapt.platforms.base import Platform
from netadapt.resources.designs import design
from netadapt.resources.estimator import Estimator, Values, Widths
from netadapt.resources.meter import Meter
from netadapt.resources.rounds import RoundsProtocol

if TYPE_CHECKING:
    from netadapt.network import Network

_TRUTH = RoundsProtocol(rounds=6, most=18)
_UNSEEN = 7919  # added to the seed: never the design that estimators are built from


@dataclass(frozen=True)
class Truth:
    """Networks measured for a judgement, by nobody else.

    Attributes:
        resource: what was measured.
        widths: ``(n, groups)``.
        values: ``(n,)`` in the resource's unit.
        repeatability: mean relative difference between the two halves of the sessions; that of all of them together
            is about half of it.
    """

    resource: str
    widths: Widths
    values: Values
    repeatability: float


def measure_truth(meter: Meter, n: int = 40, seed: int = 0, *, resource: str = "latency") -> Truth:
    """Measure networks that ``meter`` has not seen, all in one window.

    Args:
        meter: what the estimators' data came from; gives the scale, so that a scale error is not held against them.
        n: how many networks; fewer where the network does not have as many that ``meter`` has not seen.
        seed: of their choice.
        resource: what to measure.

    Raises:
        UsageError: ``meter`` has seen every network there is.
    """
    widths = _unseen(meter.network, n, seed, meter.data(resource)[0])
    rounds = meter.measure_fresh(widths, _TRUTH, seed)
    halves = [meter.values(rounds, resource, slice(half, None, 2)) for half in (0, 1)]
    repeatability = float(np.mean(np.abs(halves[0] / halves[1] - 1)))
    return Truth(resource, widths, meter.values(rounds, resource), repeatability)


def judge(network: Network, estimator: Estimator, truth: Truth) -> dict[str, Any]:
    """Return how far an estimator is off; the keys are those of `verify`."""
    estimated, sigma = estimator.estimate(truth.widths)
    measured = truth.values
    return {
        "resource": truth.resource,
        **_errors(measured, estimated, sigma),
        "repeatability": truth.repeatability,
        "networks_verified": len(measured),
        "networks_measured": getattr(estimator, "networks_measured", None),
        "build_seconds": getattr(estimator, "build_seconds", None),
        "pairs": [
            {"widths": network.mapping(row), "measured": m, "estimated": e, "sigma": s}
            for row, m, e, s in zip(truth.widths, measured.tolist(), estimated.tolist(), sigma.tolist(), strict=True)
        ],
    }


def verify(
    network: Network,
    platform: Platform,
    estimator: Estimator,
    n: int = 40,
    seed: int = 0,
    *,
    resource: str = "latency",
    meter: Meter | None = None,
) -> dict[str, Any]:
    """Compare an estimator with fresh measurements of unseen networks: `measure_truth` and `judge`.

    Args:
        network: the traced network.
        platform: where; the one that the estimator was built on.
        estimator: what to judge.
        n: how many networks, as for `measure_truth`.
        seed: of their choice.
        resource: what the estimator predicts.
        meter: what the estimator's data came from; by default a new one.

    Returns:
        ``mean_error``, ``worst_error``, ``bias`` (mean signed error, all relative), ``spearman`` (rank correlation),
        ``repeatability`` (see `Truth`), ``z`` (root mean square of error over sigma), ``resource``,
        ``networks_verified``, ``networks_measured``, ``build_seconds`` (both ``None`` for an estimator that does not
        know) and ``pairs`` (``widths``, ``measured``, ``estimated``, ``sigma`` of each network, in the resource's
        unit).

    Raises:
        UsageError: ``meter`` has seen every network there is.
    """
    meter = meter or Meter(network, platform)
    return judge(network, estimator, measure_truth(meter, n, seed, resource=resource))


def _unseen(network: Network, n: int, seed: int, seen: Widths) -> Widths:
    """Return ``(n, groups)`` networks that are not among those ``seen``."""
    known = {tuple(row) for row in seen.tolist()}
    drawn = design(network, n + len(known), seed + _UNSEEN)
    widths = drawn[[tuple(row) not in known for row in drawn.tolist()]][:n]
    if not len(widths):
        raise UsageError(
            f"verify: all of the {len(known)} networks there are were measured to build the estimator; "
            f"none is left to judge it by. Build it from fewer networks."
        )
    return widths


def _errors(measured: Values, estimated: Values, sigma: Values) -> dict[str, float]:
    error = estimated / measured - 1
    away = (estimated - measured) / np.maximum(sigma, 1e-12 * measured)
    return {
        "mean_error": float(np.mean(np.abs(error))),
        "worst_error": float(np.max(np.abs(error))),
        "bias": float(np.mean(error)),
        "spearman": float(spearmanr(measured, estimated).statistic),
        "z": float(np.sqrt(np.mean(away**2))),
    }
