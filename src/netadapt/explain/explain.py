"""Explains a smaller network: measures both, finds the time of every layer, and has each judged."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from netadapt.errors import PlatformError
from netadapt.explain.causes import LayerTime, judge
from netadapt.explain.naming import Names, owners
from netadapt.explain.profiling import take_profiles, times_of
from netadapt.explain.record import Explanation, Row, Total
from netadapt.platforms.base import Measurement, Platform
from netadapt.platforms.environment import vector_of_processor
from netadapt.platforms.stopwatch import StopwatchProtocol, measure
from netadapt.resources.estimator import Estimator, Values, Widths

if TYPE_CHECKING:
    from netadapt.network import Network

UNKNOWN_VECTOR = 8  # channels at once on a platform of which nothing is known

Progress = Callable[[int, int], None]


@runtime_checkable
class PartedEstimator(Protocol):
    """An estimator that can say what each layer adds; see `NetworkModel.parts` and `LayerTable.parts`."""

    def estimate(self, widths: Widths) -> tuple[Values, Values]:
        """Return expected values and their standard errors."""
        ...

    def parts(self, widths: Widths) -> dict[str, float]:
        """Return the share of each layer in the estimate of one network."""
        ...


@dataclass(frozen=True)
class _Found:
    """The times of one network's layers, the rest of its time, and where all of it comes from."""

    layers: Mapping[str, LayerTime]
    other_ms: float
    overhead_ms: float


@dataclass(frozen=True)
class Source:
    """Where the times of layers come from; the fields are those of `Explanation`."""

    text: str
    profiles: int
    vector: int
    vector_from: str


def explain(
    network: Network,
    widths: Mapping[str, int],
    platform: Platform,
    estimator: Callable[[], Estimator],
    *,
    variant: str = "",
    repeats: int = 5,
    seconds: float = 0.2,
    progress: Progress | None = None,
) -> Explanation:
    """Explain the latency of a network at other widths.

    Args:
        network: the original, traced.
        widths: of the smaller network; groups not named keep theirs.
        platform: where both are timed.
        estimator: gives the latency estimator; asked only if the platform has no profiler.
        variant: name of the smaller network, for the record.
        repeats: fresh sessions, profiled and measured, of each network.
        seconds: per session.
        progress: called with the profiled sessions done and in all.

    Raises:
        PlatformError: the runtime cannot run a network, or neither profiler nor estimator tells layers apart.
        MeasurementUnusable: the platform is too noisy, or others hold the measuring lock.
    """
    with tempfile.TemporaryDirectory(prefix="netadapt-") as folder:
        artifacts = [platform.compile_widths(network, some, Path(folder)) for some in ({}, widths)]
        profiles = take_profiles(platform, artifacts, repeats=repeats, seconds=seconds, progress=progress)
        protocol = StopwatchProtocol(sessions=max(repeats, 3), seconds=seconds)
        measured = measure(platform, artifacts, sentinel=artifacts[0], protocol=protocol)
    if profiles is None:
        found, source = _estimated(network, widths, platform, estimator())
    else:
        times = [times_of(some, Names(network.layers)) for some in profiles]
        found = [_Found(some.layers, some.other_ms, some.shortest_ms) for some in times]
        source = profiled_source(platform, repeats)
    before, after = found
    overhead_ms = min(before.overhead_ms, after.overhead_ms)
    rows = judge(network, widths, before.layers, after.layers, vector=source.vector, overhead_ms=overhead_ms)
    others_ms = before.other_ms, after.other_ms
    return explanation_of(platform, variant, source, measured, others_ms, overhead_ms, rows)


def explanation_of(
    platform: Platform,
    variant: str,
    source: Source,
    measured: Sequence[Measurement],
    others_ms: tuple[float, float],
    overhead_ms: float,
    rows: Sequence[Row],
    notes: Sequence[str] = (),
) -> Explanation:
    """Put together what was found.

    Args:
        platform: where both networks were timed.
        variant: name of the second one.
        source: of the times of the layers.
        measured: the first network and the second as wholes.
        others_ms: the time of each that belongs to no layer.
        overhead_ms: what an operation takes at least.
        rows: layer by layer.
        notes: what else the user is told.
    """
    sides_ms = [row.before.latency_ms for row in rows], [row.after.latency_ms for row in rows]
    before, after = (
        Total(
            measured_ms=whole.median_ms,
            half_width_ms=whole.half_width_ms,
            verdict=whole.verdict,
            layers_ms=sum(layers_ms),
            other_ms=other_ms,
        )
        for whole, other_ms, layers_ms in zip(measured, others_ms, sides_ms, strict=True)
    )
    return Explanation(
        platform=platform.name,
        variant=variant,
        source=source.text,
        profiles=source.profiles,
        vector=source.vector,
        vector_from=source.vector_from,
        overhead_ms=overhead_ms,
        before=before,
        after=after,
        rows=tuple(rows),
        notes=tuple(notes),
    )


def profiled_source(platform: Platform, repeats: int) -> Source:
    """Return where times come from that a platform's profiler told in ``repeats`` sessions of each network."""
    runtime = platform.fingerprint().get("runtime", platform.name)
    text = f"the profiler of {runtime}: medians of {repeats} fresh sessions of each network, taken in turn"
    return Source(text, repeats, *_vector(platform))


def _vector(platform: Platform) -> tuple[int, str]:
    """Return how many channels a platform with a profiler computes at once, and how that is known."""
    known = vector_of_processor() if getattr(platform, "exclusive", True) else None
    if known is None:
        return UNKNOWN_VECTOR, "assumed: what the device computes at once is not known"
    return known[0], f"this processor has {known[1]}"


def _estimated(
    network: Network, widths: Mapping[str, int], platform: Platform, estimator: Estimator
) -> tuple[list[_Found], Source]:
    """Return what an estimator says of both networks."""
    if not isinstance(estimator, PartedEstimator):
        raise PlatformError(
            f"{platform.name} has no profiler, and {type(estimator).__name__} knows no layers. Explain a run whose "
            f'search.estimator is "network" or "table", or give a --platform with a profiler, such as onnxruntime.'
        )
    owner = owners(network.layers)
    found = []
    for vector in (network.vector({}), network.vector(widths)):
        times: dict[str, float] = {}
        for name, value in estimator.parts(vector).items():
            times[owner[name]] = times.get(owner[name], 0.0) + value
        other_ms = float(estimator.estimate(vector[None])[0][0]) - sum(times.values())
        found.append(_Found({name: LayerTime(value) for name, value in times.items()}, other_ms, 0.0))
    kind = type(estimator).__name__
    text = f"the estimator ({kind}), for {platform.name} has no profiler: not measured layer by layer"
    if (step := getattr(estimator, "vector", None)) is not None:
        return found, Source(text, 0, step, "found by the estimator")
    return found, Source(text, 0, *_vector(platform))
