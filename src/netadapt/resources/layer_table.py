"""The paper's look-up table: a network costs the sum of its layers, each measured alone (paper section on latency).

Layers of equal shape share one table over (channels in, channels out); between its points values are interpolated.
Isolated layers do not quite add up, so `fit` calibrates the sum on whole networks. Built by `build.py`.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt.errors import PlatformError, UsageError
from netadapt.files import cache_folder
from netadapt.platforms.base import Platform
from netadapt.resources.estimator import Values, Widths
from netadapt.resources.layer_cells import Cell, shapes_of
from netadapt.resources.meter import Progress
from netadapt.resources.rounds import RoundsProtocol, measure_rounds
from netadapt.resources.samples import Record, SampleFile

if TYPE_CHECKING:
    from netadapt.network import Network

_log = logging.getLogger("netadapt")
ADDITIVE = ("latency", "energy")  #: resources of which a network has the sum of its layers'
UNCALIBRATED = 0.13  # relative error of a plain sum: the paper's table overestimates by 13 %
_AT_ONCE = 48  # cells per window of time
_PROTOCOL = RoundsProtocol(most=3)  # the noise of a network's many layers averages out
#: what cells are compared to within a window: a usual convolution
_SENTINEL = Cell(False, (3, 3), (1, 1), (28, 28), (28, 28), 1, 64, 64, 1)


class LayerTable:
    """Predicts one additive resource as a calibrated sum over layers.

    Args:
        network: the traced network.
        values: of each isolated layer, in the resource's unit; must hold all cells of the grid.
        grid: points per axis at most.

    Attributes:
        networks_measured: whole networks that it is calibrated with; 0 without calibration.
        build_seconds: time spent on measuring the cells.
        uncovered: names of layers with MACs that cannot be measured alone; only calibration accounts for them.
    """

    def __init__(self, network: Network, values: Mapping[Cell, float], grid: int = 4) -> None:
        self._shapes, others = _shapes(network, grid)
        self._tables = [np.array([values[cell] for cell in shape.cells()]) for shape in self._shapes]
        self._offset, self._slope, self._error = 0.0, 1.0, UNCALIBRATED
        self.networks_measured = 0
        self.build_seconds = 0.0
        self.uncovered = others

    @classmethod
    def measure(
        cls,
        network: Network,
        platform: Platform,
        resources: Sequence[str] = ("latency",),
        *,
        cache: Path | str | None = None,
        grid: int = 4,
        protocol: RoundsProtocol | None = None,
        progress: Progress | None = None,
    ) -> dict[str, LayerTable]:
        """Measure all cells that are not in the cache yet (also from other networks) and make one table per resource.

        Args:
            network: the traced network.
            platform: where.
            resources: of `ADDITIVE`.
            cache: folder of the samples; by default as for `Meter`.
            grid: points per axis at most; the number of isolated layers grows with its square.
            protocol: of the rounds.
            progress: called with cells done and in all.

        Raises:
            PlatformError: a resource that does not add up, or that the platform does not measure.
        """
        for name in resources:
            if name not in ADDITIVE or name not in platform.resources:
                raise PlatformError(
                    f'A layer table of "{name}" on {platform.name} is not possible: layers add up in '
                    f'{", ".join(ADDITIVE)} only, where the platform measures them. Use the estimator "network".'
                )
        shapes, _ = _shapes(network, grid)
        cells = list(dict.fromkeys(cell for shape in shapes for cell in shape.cells()))
        found = _Cells(platform, cache_folder(cache)).measure(cells, protocol or _PROTOCOL, progress)
        tables = {name: cls(network, {cell: _value(found, cell, name) for cell in cells}, grid) for name in resources}
        for table in tables.values():
            table.build_seconds = sum(record["seconds"] for record in found.values())
        return tables

    def fit(self, widths: Widths, values: Values) -> None:
        """Calibrate: the affine function of the sum that fits whole networks best in relative error.

        With fewer than three networks only the factor is fitted.

        Args:
            widths: ``(n, groups)``.
            values: ``(n,)`` positive, in the resource's unit.

        Raises:
            UsageError: no network, or a value that is not positive.
        """
        sums, values = self._sum(np.asarray(widths)), np.asarray(values, dtype=np.float64)
        if not len(values) or not np.all(values > 0):
            raise UsageError(f"LayerTable: {len(values)} values; at least one is needed and all must be positive.")
        columns = np.stack([sums, np.ones_like(sums)], axis=1)[:, : 1 if len(values) < 3 else 2]
        solution = np.linalg.lstsq(columns / values[:, None], np.ones(len(values)), rcond=None)[0]
        self._slope, self._offset = float(solution[0]), float(solution[1]) if len(solution) > 1 else 0.0
        spare = len(values) - len(solution)
        residuals = self.estimate(widths)[0] / values - 1
        self._error = float(np.sqrt(np.sum(residuals**2) / spare)) if spare > 0 else UNCALIBRATED
        self.networks_measured = len(values)

    def estimate(self, widths: Widths) -> tuple[Values, Values]:
        """Return expected values and their standard errors, both ``(m,)``, for ``widths`` of shape ``(m, groups)``.

        The standard error is the calibration's residual, relative to the value.
        """
        sums = self._sum(np.asarray(widths))
        values = np.maximum(self._offset + self._slope * sums, 0.1 * self._slope * sums)
        return values, self._error * values

    def parts(self, widths: Widths) -> dict[str, float]:
        """Return the calibrated value of each layer of one network, by the layer's name.

        Args:
            widths: ``(groups,)``.
        """
        row = np.asarray(widths)[None]
        tables = zip(self._shapes, self._tables, strict=True)
        each = {name: values for shape, table in tables for name, values in shape.by_layer(table, row).items()}
        return {name: self._slope * float(values[0]) for name, values in each.items()}

    def _sum(self, widths: Widths) -> Values:
        total = np.zeros(len(widths))
        for shape, table in zip(self._shapes, self._tables, strict=True):
            total += shape.interpolate(table, widths)
        return total


class _Cells:
    """The isolated layers measured on a platform, on disk for all networks."""

    def __init__(self, platform: Platform, cache: Path) -> None:
        self._platform = platform
        subject = {"platform": dict(platform.fingerprint()), "layers": "isolated"}
        self._file = SampleFile(cache, f"{platform.name} layers", subject)

    def measure(self, cells: Sequence[Cell], protocol: RoundsProtocol, progress: Progress | None) -> dict[Cell, Record]:
        """Return a record for each cell; measures what is missing, a window at a time."""
        needed = set(self._platform.resources)
        known = {_cell(r["cell"]): r for r in self._file.read() if needed <= set(r["ratio"])}
        missing = [cell for cell in cells if cell not in known]
        for start in range(0, len(missing), _AT_ONCE):
            if progress is not None:
                progress(len(cells) - len(missing) + start, len(cells))
            known |= self._measure(missing[start : start + _AT_ONCE], protocol, start)
        if progress is not None:
            progress(len(cells), len(cells))
        return {cell: known[cell] for cell in cells}

    def _measure(self, cells: Sequence[Cell], protocol: RoundsProtocol, seed: int) -> dict[Cell, Record]:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="netadapt-") as folder:
            *artifacts, sentinel = [self._platform.compile(*cell.build(), Path(folder)) for cell in [*cells, _SENTINEL]]
            rounds = measure_rounds(self._platform, artifacts, [sentinel], protocol, seed)
        seconds, ratios = (time.monotonic() - began) / len(cells), rounds.ratios()
        sentinel_values = {name: float(np.median(table)) for name, table in rounds.sentinels.items()}
        records = [
            {
                "cell": asdict(cell),
                "ratio": {name: float(values[column]) for name, values in ratios.items()},
                "raw": {name: table[:, column].tolist() for name, table in rounds.networks.items()},
                "sentinel": sentinel_values,
                "seconds": seconds,
                "time": time.time(),
            }
            for column, cell in enumerate(cells)
        ]
        self._file.append(*records)
        return dict(zip(cells, records, strict=True))


def _value(found: Mapping[Cell, Record], cell: Cell, resource: str) -> float:
    """Return a cell's value: its ratio times the sentinel's usual value, which takes out drift between windows."""
    usual = float(np.median([record["sentinel"][resource] for record in found.values()]))
    return float(found[cell]["ratio"][resource]) * usual


def _shapes(network: Network, grid: int) -> tuple[list[Any], tuple[str, ...]]:
    original = np.array([group.width for group in network.groups], dtype=np.int64)
    shapes, others = shapes_of(network.layers, original, grid)
    if others:
        _log.warning("layer table: %d layer(s) cannot be measured alone, e.g. %s", len(others), others[0].name)
    return shapes, tuple(layer.name for layer in others)


def _cell(record: Mapping[str, Any]) -> Cell:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
    return Cell(**fields)
