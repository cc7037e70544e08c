"""Measures networks given by widths, or as modules, on one platform, through the cache of samples.

Each network is measured beside yardsticks of known latency, the original among them, so that all values of a meter are
on the scale of one window of time (`yardsticks.py`). Used by `build.py` and by the run at every step.
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from netadapt.errors import MeasurementUnusable, PlatformError
from netadapt.files import cache_folder
from netadapt.platforms.base import Artifact, Measurement, Platform
from netadapt.platforms.stopwatch import StopwatchProtocol, measure
from netadapt.resources.estimator import Values, Widths
from netadapt.resources.patience import patiently
from netadapt.resources.reference import measure_reference
from netadapt.resources.rounds import Rounds, RoundsProtocol, measure_rounds
from netadapt.resources.samples import Record, SampleFile
from netadapt.resources.yardsticks import on_scale, yardsticks

if TYPE_CHECKING:
    from netadapt.network import Network

Progress = Callable[[int, int], None]  #: called with (networks done, networks in all)
Resources = Mapping[str, float]
_log = logging.getLogger("netadapt")


class Meter:
    """Measures widths of one network on one platform.

    Args:
        network: the traced network.
        platform: where.
        cache: folder of the samples; by default ``$NETADAPT_CACHE`` or ``~/.cache/netadapt``.
        initial: what the original costs by resource, where a resumed run knows it; else measured on first use.
        yardsticks_ms: what the yardsticks take, where a resumed run knows it; with ``initial`` alone the original is
            the only one.
        protocol: of the rounds in which networks given by widths are measured.
        chunk: networks per window of time; after each window its results are on disk.
        seed: of the orders.

    Attributes:
        build_seconds: time spent on measuring the networks that were asked for by widths, also in earlier runs.
    """

    def __init__(
        self,
        network: Network,
        platform: Platform,
        cache: Path | str | None = None,
        *,
        initial: Mapping[str, float] | None = None,
        yardsticks_ms: Sequence[float] | None = None,
        protocol: RoundsProtocol | None = None,
        chunk: int = 32,
        seed: int = 0,
    ) -> None:
        self.network, self.platform = network, platform
        self.cache = cache_folder(cache)
        self.protocol = protocol or RoundsProtocol()
        self.build_seconds = 0.0
        self._chunk, self._seed = chunk, seed
        self._initial = dict(initial) if initial else None
        self._yardsticks = yardsticks(network)
        self._yardsticks_ms: tuple[float, ...] = ()
        if initial:
            self._yardsticks_ms = tuple(yardsticks_ms or [initial["latency"]])
            self._yardsticks = self._yardsticks[: len(self._yardsticks_ms)]
        self._reference: Measurement | None = None
        self._file = SampleFile(self.cache, platform.name, _subject(network, platform))
        self._own: dict[tuple[int, ...], Resources] = {}

    @property
    def initial(self) -> dict[str, float]:
        """Return what the original network costs, by resource; measured on first use."""
        if self._initial is None:
            self._initial = _values(self.reference, self.platform)
        return dict(self._initial)

    @property
    def reference(self) -> Measurement:
        """Return the measurement of the original network, taken on first use."""
        if self._reference is None:
            with tempfile.TemporaryDirectory(prefix="netadapt-") as folder:
                candidates = self._candidates(Path(folder))
                measured = patiently(
                    lambda attempt: measure_reference(self.platform, candidates, self._seed + attempt),
                    first_usable,
                    self.platform.name,
                )
            _refuse_unusable(measured[0])
            self._reference = measured[0]
            if not self._yardsticks_ms:
                self._yardsticks = self._yardsticks[: len(measured)]
                self._yardsticks_ms = tuple(found.median_ms for found in measured)
        return self._reference

    def _candidates(self, folder: Path) -> list[Artifact]:
        """Compile the original, and what is narrower as far as the platform can run that."""
        artifacts = [self._compile(self._yardsticks[0], folder)]
        try:
            artifacts += (self._compile(widths, folder) for widths in self._yardsticks[1:])
        except PlatformError as error:
            _log.warning("%s: latencies are scaled by wide networks only: %s", self.platform.name, error)
        return artifacts

    @property
    def yardsticks_ms(self) -> tuple[float, ...]:
        """Return what the yardsticks take on the scale of this meter, the original first; measured on first use."""
        if not self._yardsticks_ms:
            _ = self.reference
        return self._yardsticks_ms

    def _compiled_yardsticks(self, folder: Path) -> list[Artifact]:
        """Compile the yardsticks, the original first."""
        _ = self.yardsticks_ms  # only once they are measured is it known which they are
        return [self._compile(widths, folder) for widths in self._yardsticks]

    def measure_widths(
        self, widths: Widths, progress: Progress | None = None, *, learn: bool = True
    ) -> dict[str, Values]:
        """Measure networks given by widths; those on disk are not measured again.

        Args:
            widths: ``(n, groups)``.
            progress: called as networks are done.
            learn: whether `data` holds them from now on.

        Returns:
            Values by resource, each ``(n,)``, on the scale of `initial`.

        Raises:
            MeasurementUnusable: the platform is too noisy; chunks that are done stay on disk.
        """
        wanted = [tuple(map(int, row)) for row in widths]
        distinct = list(dict.fromkeys(wanted))
        known = {tuple(record["widths"]): record for record in self._records("design")}
        missing = [key for key in distinct if key not in known]
        done = len(wanted) - len(missing)
        for start in range(0, len(missing), self._chunk):
            if progress is not None:
                progress(done + start, len(wanted))
            part = missing[start : start + self._chunk]
            known |= zip(part, self._measure_chunk(part, self._seed + start), strict=True)
        if progress is not None:
            progress(len(wanted), len(wanted))
        self.build_seconds = sum(known[key]["seconds"] for key in distinct)
        values = {key: self._values_of_record(known[key]) for key in distinct}
        if learn:
            self._own |= values
        return {name: np.array([values[key][name] for key in wanted]) for name in self.platform.resources}

    def measure_fresh(self, widths: Widths, protocol: RoundsProtocol, seed: int) -> Rounds:
        """Measure networks given by widths in one window, for nobody to learn from; see `values`.

        Args:
            widths: ``(n, groups)``.
            protocol: how often and how long.
            seed: of the order.

        Raises:
            MeasurementUnusable: the platform is too noisy.
        """
        with tempfile.TemporaryDirectory(prefix="netadapt-") as folder:
            sentinels = self._compiled_yardsticks(Path(folder))
            artifacts = [self._compile(tuple(map(int, row)), Path(folder)) for row in widths]
            return measure_rounds(self.platform, artifacts, sentinels, protocol, seed)

    def values(self, rounds: Rounds, resource: str, part: slice = slice(None)) -> Values:
        """Return what networks take on the scale of `initial`, ``(n,)``.

        Args:
            rounds: of `measure_fresh`.
            resource: which.
            part: use only these rounds.
        """
        if resource == "latency":
            levels_ms, now_ms = rounds.levels(resource, part)
            return on_scale(levels_ms, now_ms.tolist(), self.yardsticks_ms)
        return self.initial[resource] * rounds.ratios(part)[resource]

    def measure_modules(
        self, modules: Sequence[nn.Module], protocol: StopwatchProtocol | None = None, *, seed: int = 0
    ) -> list[Measurement]:
        """Measure whole networks end to end, with their own weights, interleaved with the original.

        Args:
            modules: e.g. the winner of a step; compiled as their users would.
            protocol: how often and how long; 5 sessions by default.
            seed: of the order.

        Returns:
            One measurement each, always with a ``ratio`` to the original of the same window.

        Raises:
            PlatformError: the runtime cannot run a module.
        """
        examples = self.network.example_inputs
        return self.measure_models([(module, examples) for module in modules], protocol, seed=seed)

    def measure_models(
        self, models: Sequence[tuple[nn.Module, Any]], protocol: StopwatchProtocol | None = None, *, seed: int = 0
    ) -> list[Measurement]:
        """Do what `measure_modules` does, of networks that each have example inputs of their own.

        Args:
            models: pairs of a network and its example inputs.
            protocol: how often and how long; 5 sessions by default.
            seed: of the order.
        """
        with tempfile.TemporaryDirectory(prefix="netadapt-") as name:
            folder = Path(name)
            original, *others = self._compiled_yardsticks(folder)
            artifacts = [self.platform.compile(model, example_inputs, folder) for model, example_inputs in models]
            tracks = [*artifacts, original, *others]
            measured = measure(self.platform, tracks, sentinel=original, protocol=protocol, seed=seed)
        now_ms = tuple(found.median_ms for found in measured[len(artifacts) :])
        # A module whose file is the original's shared its sessions and came back without a ratio.
        return [
            replace(found, ratio=found.sentinel_ratio, yardsticks_ms=now_ms) for found in measured[: len(artifacts)]
        ]

    def values_of(self, measurement: Measurement) -> dict[str, float]:
        """Return what a measurement of `measure_modules` says on the scale of `initial`, by resource.

        Of latency the machine's drift since the start is taken out, by the yardsticks of the same window; older runs
        measured beside the original alone.
        """
        values = _values(measurement, self.platform)
        if "latency" in values:
            now_ms = measurement.yardsticks_ms or (measurement.median_ms / measurement.sentinel_ratio,)
            values["latency"] = float(on_scale(np.array(values["latency"]), now_ms, self.yardsticks_ms))
        return values

    def add(self, widths: Mapping[str, int] | Sequence[int], measurement: Measurement) -> None:
        """Add a step's measurement to the samples, in memory and on disk.

        Args:
            widths: of the measured network, by group or in the order of the groups.
            measurement: from `measure_modules`.

        Raises:
            MeasurementUnusable: its verdict is ``unusable``.
        """
        _refuse_unusable(measurement)
        vector = self.network.vector(widths) if isinstance(widths, Mapping) else widths
        key, initial, values = tuple(map(int, vector)), self.initial, self.values_of(measurement)
        ratio = {name: value / initial[name] for name, value in values.items()}
        record = {"kind": "step", "widths": key, "ratio": ratio, "sessions": len(measurement.sessions_ms)}
        if not any(r["widths"] == list(key) and _same(r["ratio"], ratio) for r in self._records("step")):
            self._file.append({**record, "time": time.time()})
        self._own[key] = values

    def data(self, resource: str) -> tuple[Widths, Values]:
        """Return all that this meter measured or was given, for `Estimator.fit`.

        The original network comes first. What other runs left on disk is not in it unless it was asked for, so that
        a resumed run sees the same data.
        """
        rows: dict[tuple[int, ...], Resources] = {self._yardsticks[0]: self.initial, **self._own}
        widths = np.array(list(rows), dtype=np.int64)
        return widths, np.array([values[resource] for values in rows.values()])

    def _compile(self, key: tuple[int, ...], folder: Path) -> Artifact:
        return self.platform.compile_widths(self.network, self.network.mapping(np.array(key)), folder)

    def _records(self, kind: str) -> list[Record]:
        needed, yardsticks = set(self.platform.resources), len(self.yardsticks_ms)
        return [
            record
            for record in self._file.read()
            if record["kind"] == kind
            and needed <= set(record["ratio"])
            # measured beside fewer yardsticks it is less sure than what this meter would measure
            and len(record.get("yardsticks_ms", range(yardsticks))) >= yardsticks
        ]

    def _measure_chunk(self, keys: list[tuple[int, ...]], seed: int) -> list[Record]:
        """Measure one window: compile all first, then measure, then write."""
        began = time.monotonic()
        rounds = self.measure_fresh(np.array(keys), self.protocol, seed)
        records = _to_records(keys, rounds, (time.monotonic() - began) / len(keys))
        self._file.append(*records)
        return records

    def _values_of_record(self, record: Record) -> dict[str, float]:
        """Return a sample's values on the scale of this meter, whichever run measured it."""
        values = {name: self.initial[name] * record["ratio"][name] for name in self.platform.resources}
        if "yardsticks_ms" in record:
            found = on_scale(np.array(record["level_ms"]), record["yardsticks_ms"], self.yardsticks_ms)
            values["latency"] = float(found)
        return values


def _to_records(keys: list[tuple[int, ...]], rounds: Rounds, seconds: float) -> list[Record]:
    """Return the samples as they are stored: ratios, the raw readings, and the yardsticks' in the same window."""
    ratios = rounds.ratios()
    levels_ms, yardsticks_ms = rounds.levels("latency")
    return [
        {
            "kind": "design",
            "widths": list(key),
            "ratio": {name: float(values[column]) for name, values in ratios.items()},
            "raw": {name: table[:, column].tolist() for name, table in rounds.networks.items()},
            "level_ms": float(levels_ms[column]),
            "yardsticks_ms": yardsticks_ms.tolist(),
            "waited": rounds.waited,
            "seconds": seconds,
            "time": time.time(),
        }
        for column, key in enumerate(keys)
    ]


def _same(ratio: Resources, other: Resources) -> bool:
    """Tell whether two samples are one and the same, computed in one way or another."""
    return all(math.isclose(ratio[name], other[name]) for name in other)


def _subject(network: Network, platform: Platform) -> dict[str, Any]:
    """Return what a file of samples belongs to; the structure's hash covers the input shapes."""
    return {
        "platform": dict(platform.fingerprint()),
        "network": network.structure_hash(),
        "groups": {group.name: group.width for group in network.groups},
    }


def _values(measurement: Measurement, platform: Platform) -> dict[str, float]:
    given = {
        "latency": measurement.median_ms,
        "energy": measurement.energy_mj,
        "memory": measurement.memory_mb,
    }
    values = {name: given.get(name) for name in platform.resources}
    for name, value in values.items():
        if value is None or not value > 0:
            raise PlatformError(f"{platform.name} says that it measures {name} but gave {value}. Leave {name} out.")
    return {name: float(value) for name, value in values.items() if value is not None}


def first_usable(measured: Sequence[Measurement]) -> bool:
    """Tell whether the first of several measurements of one window can be used."""
    return measured[0].verdict != "unusable"


def _refuse_unusable(measurement: Measurement) -> None:
    if measurement.verdict == "unusable":
        sessions = ", ".join(f"{value:.3g}" for value in measurement.sessions_ms)
        raise MeasurementUnusable(
            f"{measurement.platform}: the sessions of one network differ too much to decide anything ({sessions} ms). "
            f"Stop other work on the device, let it cool, or fix its clock, and repeat."
        )
