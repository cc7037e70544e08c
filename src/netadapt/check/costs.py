"""Measures the original, the smallest and some uniformly narrower networks in one window of time, for `findings.py`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from netadapt.adaptation.limits import smallest_widths
from netadapt.adaptation.metering import Metering
from netadapt.baselines.uniform import uniform_widths
from netadapt.network import Network
from netadapt.platforms import Measurement, Platform, StopwatchProtocol
from netadapt.platforms.stopwatch import measure
from netadapt.resources.meter import Meter
from netadapt.runs.settings import MeasureSection, SearchSection

#: parts of the original width of which uniform networks are shown
FACTORS = (0.75, 0.5, 0.25)


@dataclass(frozen=True)
class Row:
    """A network given by widths, and what it costs.

    Attributes:
        name: ``floor`` or the uniform factor, e.g. ``0.5``.
        widths: by group.
        macs, parameters: counted.
        latency_ms: measured, on the scale of the original's latency.
        ratio: to the original in the same window of time.
        half_width_ms: half the 95 % interval of ``latency_ms``.
    """

    name: str
    widths: dict[str, int]
    macs: int
    parameters: int
    latency_ms: float = 0.0
    ratio: float = 1.0
    half_width_ms: float = 0.0


@dataclass(frozen=True)
class Taken:
    """What one window of measuring gave.

    Attributes:
        original: measured.
        rows: filled in.
        session_s: seconds of one session.
        compile_s: seconds to compile one network; less where some were kept from before.
    """

    original: Measurement
    rows: tuple[Row, ...]
    session_s: float
    compile_s: float


def rows_of(network: Network, search: SearchSection) -> list[Row]:
    """Return the smallest network first, then the uniform ones; empty where nothing can be removed."""
    smallest = smallest_widths(network, search)
    if smallest == network.widths:
        return []
    rows = [("floor", smallest)]
    candidates = uniform_widths(network.groups, multiple=search.multiple, minimum=search.minimum_width)
    full = network.vector({})
    for factor in FACTORS:
        nearest = np.abs(candidates / full - factor).mean(axis=1).argmin()
        rows.append((f"{factor:g}", network.mapping(candidates[nearest])))
    return [Row(name, widths, network.macs(widths), network.parameters(widths)) for name, widths in rows]


def take_measurements(network: Network, platform: Platform, rows: Sequence[Row], sessions: int) -> Taken:
    """Compile all networks first, then measure them interleaved with the original.

    Args:
        network: the original.
        platform: where.
        rows: without their latencies.
        sessions: per network.
    """
    with tempfile.TemporaryDirectory(prefix="netadapt-") as name:
        folder, began = Path(name), time.monotonic()
        original = platform.compile_widths(network, network.widths, folder)
        artifacts = [platform.compile_widths(network, row.widths, folder) for row in rows]
        compile_s, began = (time.monotonic() - began) / (len(rows) + 1), time.monotonic()
        protocol = StopwatchProtocol(sessions=sessions)
        *others, reference = measure(platform, [*artifacts, original], sentinel=original, protocol=protocol)
        session_s = (time.monotonic() - began) / (sessions * (len(rows) + 1))
    filled = []
    for row, measured in zip(rows, others, strict=True):
        ratio = measured.sentinel_ratio
        scale = ratio * reference.median_ms / measured.median_ms
        filled.append(
            replace(
                row,
                latency_ms=ratio * reference.median_ms,
                ratio=ratio,
                half_width_ms=measured.half_width_ms * scale,
            )
        )
    return Taken(reference, tuple(filled), session_s, compile_s)


def metering_of(network: Network, platform: Platform, original: Measurement) -> Metering:
    """Return what a run with the default settings would measure with, with the original measured already."""
    known = {"latency": original.median_ms, "energy": original.energy_mj, "memory": original.memory_mb}
    initial = {name: value for name in platform.resources if (value := known[name]) is not None}
    metering = Metering(
        network, Meter(network, platform, initial=initial), StopwatchProtocol(sessions=MeasureSection().sessions)
    )
    metering.know_noise(original)
    return metering
