"""Measures networks given by widths, or as modules, on one platform, through the cache of samples.

Each network is measured as a ratio to the original in the same window of time; times `initial` it is a value, so that
all values of a meter are on one scale. Used by `build.py` and by the run at every step.
"""

from __future__ import annotations

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
from netadapt.resources.rounds import Rounds, RoundsProtocol, measure_rounds
from netadapt.resources.samples import Record, SampleFile

if TYPE_CHECKING:
    from netadapt.network import Network

Progress = Callable[[int, int], None]  #: called with (networks done, networks in all)
Ratios = Mapping[str, float]
_REFERENCE = StopwatchProtocol(sessions=11)  # the scale of everything else deserves more sessions
_DOUBTFUL = (
    0.02  # relative half-width above which the reference is measured once more, for as long as a bad minute lasts
)
_LONG_REFERENCE = StopwatchProtocol(sessions=33)


class Meter:
    """Measures widths of one network on one platform.

    Args:
        network: the traced network.
        platform: where.
        cache: folder of the samples; by default ``$NETADAPT_CACHE`` or ``~/.cache/netadapt``.
        initial: what the original costs by resource, where a resumed run knows it; else measured on first use.
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
        self._reference: Measurement | None = None
        self._file = SampleFile(self.cache, platform.name, _subject(network, platform))
        self._own: dict[tuple[int, ...], Ratios] = {}

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
                original = self._compile(self._original(), Path(folder))
                self._reference = measure(self.platform, [original], protocol=_REFERENCE, seed=self._seed)[0]
                if self._reference.relative_half_width > _DOUBTFUL:
                    self._reference = measure(self.platform, [original], protocol=_LONG_REFERENCE, seed=self._seed)[0]
            _refuse_unusable(self._reference)
        return self._reference

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
        known = {tuple(record["widths"]): record for record in self._records("design")}
        missing = [key for key in dict.fromkeys(wanted) if key not in known]
        done = len(wanted) - len(missing)
        for start in range(0, len(missing), self._chunk):
            if progress is not None:
                progress(done + start, len(wanted))
            part = missing[start : start + self._chunk]
            known |= zip(part, self._measure_chunk(part, self._seed + start), strict=True)
        if progress is not None:
            progress(len(wanted), len(wanted))
        self.build_seconds = sum(known[key]["seconds"] for key in dict.fromkeys(wanted))
        if learn:
            self._own |= {key: known[key]["ratio"] for key in wanted}
        initial = self.initial
        return {
            name: np.array([initial[name] * known[key]["ratio"][name] for key in wanted])
            for name in self.platform.resources
        }

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
        with tempfile.TemporaryDirectory(prefix="netadapt-") as name:
            folder = Path(name)
            original = self._compile(self._original(), folder)
            artifacts = [self.platform.compile(m, self.network.example_inputs, folder) for m in modules]
            measured = measure(self.platform, artifacts, sentinel=original, protocol=protocol, seed=seed)
        # A module whose file is the original's shared its sessions and came back without a ratio.
        return [replace(m, ratio=1.0) if m.ratio is None else m for m in measured]

    def values_of(self, measurement: Measurement) -> dict[str, float]:
        """Return what a measurement of `measure_modules` says on the scale of `initial`, by resource.

        Latency is the ratio to the original times `initial`, which takes out the machine's drift since the start.
        """
        values = _values(measurement, self.platform)
        if measurement.ratio is not None and "latency" in values:
            values["latency"] = measurement.ratio * self.initial["latency"]
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
        key, initial = tuple(map(int, vector)), self.initial
        ratio = {name: value / initial[name] for name, value in self.values_of(measurement).items()}
        record = {"kind": "step", "widths": key, "ratio": ratio, "sessions": len(measurement.sessions_ms)}
        if not any(r["widths"] == list(key) and r["ratio"] == ratio for r in self._records("step")):
            self._file.append({**record, "time": time.time()})
        self._own[key] = ratio

    def data(self, resource: str) -> tuple[Widths, Values]:
        """Return all that this meter measured or was given, for `Estimator.fit`.

        The original network comes first. What other runs left on disk is not in it unless it was asked for, so that
        a resumed run sees the same data.
        """
        rows = {self._original(): dict.fromkeys(self.platform.resources, 1.0), **self._own}
        widths = np.array(list(rows), dtype=np.int64)
        return widths, np.array([ratio[resource] * self.initial[resource] for ratio in rows.values()])

    def compile_all(self, widths: Sequence[tuple[int, ...]], folder: Path) -> list[Artifact]:
        """Compile networks given by widths, and the original network last."""
        return [self._compile(key, folder) for key in [*widths, self._original()]]

    def _compile(self, key: tuple[int, ...], folder: Path) -> Artifact:
        return self.platform.compile_widths(self.network, self.network.mapping(np.array(key)), folder)

    def _original(self) -> tuple[int, ...]:
        return tuple(group.width for group in self.network.groups)

    def _records(self, kind: str) -> list[Record]:
        needed = set(self.platform.resources)
        return [r for r in self._file.read() if r["kind"] == kind and needed <= set(r["ratio"])]

    def _measure_chunk(self, keys: list[tuple[int, ...]], seed: int) -> list[Record]:
        """Measure one window: compile all first, then measure, then write."""
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="netadapt-") as folder:
            *artifacts, original = self.compile_all(keys, Path(folder))
            rounds = measure_rounds(self.platform, artifacts, original, self.protocol, seed)
        records = _to_records(keys, rounds, (time.monotonic() - began) / len(keys))
        self._file.append(*records)
        return records


def _to_records(keys: list[tuple[int, ...]], rounds: Rounds, seconds: float) -> list[Record]:
    """Return the samples as they are stored: ratios, the raw readings, and the original's in the same window."""
    ratios = rounds.ratios()
    reference = {name: float(np.median(table)) for name, table in rounds.sentinel.items()}
    return [
        {
            "kind": "design",
            "widths": list(key),
            "ratio": {name: float(values[column]) for name, values in ratios.items()},
            "raw": {name: table[:, column].tolist() for name, table in rounds.networks.items()},
            "original": reference,
            "seconds": seconds,
            "time": time.time(),
        }
        for column, key in enumerate(keys)
    ]


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


def _refuse_unusable(measurement: Measurement) -> None:
    if measurement.verdict == "unusable":
        sessions = ", ".join(f"{value:.3g}" for value in measurement.sessions_ms)
        raise MeasurementUnusable(
            f"{measurement.platform}: the sessions of one network differ too much to decide anything ({sessions} ms). "
            f"Stop other work on the device, let it cool, or fix its clock, and repeat."
        )
