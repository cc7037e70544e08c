"""Builds the estimators of a run: counts what can be counted, measures the rest and fits it.

Called by the run before its first iteration and by ``netadapt estimator build``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from netadapt.errors import BudgetError, did_you_mean
from netadapt.platforms.base import Platform
from netadapt.resources.counted import COUNTED, Counted
from netadapt.resources.designs import design
from netadapt.resources.estimator import Estimator
from netadapt.resources.layer_table import LayerTable
from netadapt.resources.macs_guide import MacsGuide
from netadapt.resources.meter import Meter, Progress
from netadapt.resources.network_model import NetworkModel

if TYPE_CHECKING:
    from netadapt.network import Network

Kind = Literal["network", "table", "macs"]
_SEED = 0  # one design for all runs, so that they share its measurements
_NETWORKS, _COSTLY_NETWORKS = 64, 40
CALIBRATION = 16  # whole networks that are enough to calibrate a layer table


def build_estimators(
    network: Network,
    platform: Platform,
    resources: Sequence[str],
    *,
    kind: Kind = "network",
    networks: int | None = None,
    cache: Path | str | None = None,
    progress: Progress | None = None,
    meter: Meter | None = None,
) -> dict[str, Estimator]:
    """Build one estimator per resource.

    Measuring is resumable: what is in the cache is not measured again. The same cache gives the same estimators.

    Args:
        network: the traced network.
        platform: where measured resources are measured.
        resources: keys of `netadapt.budget.UNITS`.
        kind: ``network`` fits whole networks (`NetworkModel`); ``table`` adds up layers (`LayerTable`); ``macs``
            measures nothing (`MacsGuide`).
        networks: whole networks to measure; by default `usual_networks`. A table is calibrated with at most 16 of them.
        cache: folder of the samples, where no ``meter`` is given.
        progress: called with networks done and in all.
        meter: measures; by default a new one. Give one to add measurements later.

    Raises:
        BudgetError: a resource that is neither counted nor measured on this platform.
        MeasurementUnusable: the platform is too noisy.
    """
    _check(resources, platform)
    estimators: dict[str, Estimator] = {name: Counted(network, name) for name in resources if name in COUNTED}
    measured = [name for name in resources if name not in COUNTED]
    if not measured:
        return estimators
    meter = meter or Meter(network, platform, cache)
    if kind == "macs":
        return estimators | _fitted({name: MacsGuide(network) for name in measured}, meter)
    count = usual_networks(platform) if networks is None else networks
    meter.measure_widths(design(network, _networks(kind, count), _SEED), progress)
    if kind == "table":
        tables = LayerTable.measure(network, platform, measured, cache=meter.cache, progress=progress)
        for table in tables.values():
            table.build_seconds += meter.build_seconds
        return estimators | _fitted(tables, meter)
    models = {name: NetworkModel(network) for name in measured}
    for model in models.values():
        model.build_seconds = meter.build_seconds
    return estimators | _fitted(models, meter)


def usual_networks(platform: Platform) -> int:
    """Return how many whole networks estimators are fitted to where nobody says it.

    Fewer where each takes many seconds before it can be timed: the last two dozen make estimators little better
    (docs/estimators.md).

    Args:
        platform: see `Platform` for what makes one ``costly``.
    """
    return _COSTLY_NETWORKS if getattr(platform, "costly", False) else _NETWORKS


def _fitted(estimators: Mapping[str, Estimator], meter: Meter) -> dict[str, Estimator]:
    for name, estimator in estimators.items():
        estimator.fit(*meter.data(name))
    return dict(estimators)


def _networks(kind: Kind, networks: int) -> int:
    return min(networks, CALIBRATION) if kind == "table" else networks


def _check(resources: Sequence[str], platform: Platform) -> None:
    known = [*platform.resources, *COUNTED]
    for name in resources:
        if name not in known:
            raise BudgetError(
                f'"{name}" is neither measured by {platform.name} nor counted{did_you_mean(name, known)}; '
                f"known are {', '.join(known)}. Budget one of these, or choose another platform."
            )
