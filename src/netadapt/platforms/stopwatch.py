"""The stopwatch: measures several networks interleaved on one platform, so that only their differences remain.

Rounds in shuffled order, a fresh session per network and round, the original network as sentinel in each round,
drift divided out, medians over the rounds (DESIGN section 8). `resources/` and the command line call it.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt.errors import MeasurementUnusable, PlatformError, SessionLost
from netadapt.platforms import conditions, statistics
from netadapt.platforms.artifacts import size_mb
from netadapt.platforms.base import Artifact, Measurement, Platform, Reading
from netadapt.platforms.busy import BusyProcess, BusyWatch
from netadapt.platforms.lock import measuring_lock

if TYPE_CHECKING:
    from torch import nn

_log = logging.getLogger("netadapt")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class StopwatchProtocol:
    """How long and how often networks are timed.

    Attributes:
        sessions: fresh sessions per network; more of them help, more time in one does not.
        seconds: timed per session.
        warmups: inferences before timing in each session.
    """

    sessions: int = 5
    seconds: float = 0.05
    warmups: int = 3

    def __post_init__(self) -> None:
        if self.sessions < 1 or not self.seconds > 0 or self.warmups < 1:
            raise PlatformError(
                f"a stopwatch needs at least 1 session, more than 0 seconds and at least 1 warm-up, "
                f"not {self.sessions}, {self.seconds:g} and {self.warmups}."
            )


def measure(
    platform: Platform,
    artifacts: Sequence[Artifact],
    *,
    sentinel: Artifact | None = None,
    protocol: StopwatchProtocol | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Measurement]:
    """Measure compiled networks in one window of time, holding the machine-wide measuring lock.

    Args:
        platform: where; what it compiled is what it can load.
        artifacts: what to measure, all compiled beforehand.
        sentinel: the original network, timed in every round; an artifact with the same content shares its
            sessions, and its measurement has no ratio.
        protocol: default `StopwatchProtocol()`.
        seed: for the order within rounds.
        progress: called with the sessions done and in total.

    Returns:
        One measurement per artifact, in order. Drift of the machine within the window is divided out of
        ``median_ms``, ``sessions_ms``, ``half_width_ms`` and ``ratio``; ``iqr_ms`` and ``p90_ms`` are of raw slices.

    Raises:
        PlatformError: the platform cannot run a network, or lost two sessions of it running.
        MeasurementUnusable: others hold the measuring lock, or a session took too long.
    """
    protocol = protocol or StopwatchProtocol()
    if not artifacts:
        return []
    tracks = [a for a in artifacts if sentinel is None or a.sha256 != sentinel.sha256]
    if sentinel is not None:
        tracks.append(sentinel)
    reference = len(tracks) - 1 if sentinel is not None else None
    with _exclusive(platform):
        watch, before = BusyWatch(), platform.environment()
        readings = _rounds(platform, tracks, protocol, seed, progress)
        # who is busy here says nothing about a device that is elsewhere
        busy = watch.others() if getattr(platform, "exclusive", True) else None
        environment = _conditions(platform, readings, reference, before, busy)
    results = summarise(platform.name, readings, sentinel=reference, environment=environment)
    if getattr(platform, "deployable", False):
        results = [replace(found, size_mb=size_mb(track)) for found, track in zip(results, tracks, strict=True)]
    others = iter(results)
    return [results[-1] if sentinel and a.sha256 == sentinel.sha256 else next(others) for a in artifacts]


def _exclusive(platform: Platform) -> AbstractContextManager[None]:
    """Return the measuring lock, unless the platform says that its sessions do not use this machine."""
    return measuring_lock.hold(platform.name) if getattr(platform, "exclusive", True) else nullcontext()


def _conditions(
    platform: Platform,
    readings: Sequence[Sequence[Reading]],
    sentinel: int | None,
    before: Mapping[str, Any],
    busy: Sequence[BusyProcess] | None,
) -> dict[str, Any]:
    """Return what the machine was like in a window that has just ended."""
    after = platform.environment()
    word = conditions.trend(conditions.pace(_levels(readings), sentinel), before, after)
    share = conditions.waited([reading for row in readings for reading in row])
    # Some of what is known of a device is only known after its first session.
    return conditions.describe(platform.name, word, {**after, **before}, after, share, busy)


def _rounds(
    platform: Platform,
    tracks: Sequence[Artifact],
    protocol: StopwatchProtocol,
    seed: int,
    progress: Progress | None,
) -> list[list[Reading]]:
    """Return the readings by network and round."""
    random = np.random.default_rng(seed)
    readings: list[list[Reading]] = [[] for _ in tracks]
    done = 0
    for _ in range(protocol.sessions):
        for track in random.permutation(len(tracks)):
            readings[track].append(_usable_session(platform, tracks[track], protocol))
            done += 1
            if progress is not None:
                progress(done, protocol.sessions * len(tracks))
    return readings


def run_session(platform: Platform, artifact: Artifact, *, seconds: float, warmups: int) -> Reading:
    """Run one session, and once more if it was lost; see `Platform.session`."""
    try:
        return platform.session(artifact, seconds=seconds, warmups=warmups)
    except SessionLost as error:
        _log.warning("a session on %s failed and is repeated: %s", platform.name, error)
        return platform.session(artifact, seconds=seconds, warmups=warmups)


def _usable_session(platform: Platform, artifact: Artifact, protocol: StopwatchProtocol) -> Reading:
    """Run one session and check its latencies."""
    reading = run_session(platform, artifact, seconds=protocol.seconds, warmups=protocol.warmups)
    slices = np.asarray(reading.latency_ms)
    if not len(slices) or not np.all(np.isfinite(slices)) or np.any(slices <= 0):
        raise MeasurementUnusable(
            f"{platform.name} gave latencies that are not positive and finite for {artifact.path.name}: "
            f"{reading.latency_ms[:5]}."
        )
    return reading


def summarise(
    platform: str,
    readings: Sequence[Sequence[Reading]],
    *,
    sentinel: int | None = None,
    environment: dict[str, Any] | None = None,
) -> list[Measurement]:
    """Turn the readings of one window into measurements.

    Args:
        platform: canonical platform string.
        readings: by network and round; as many rounds for each network.
        sentinel: index of the sentinel among the networks, if any.
        environment: for the record.
    """
    values = _levels(readings)
    flat = values / statistics.drift(values, sentinel)
    halves = statistics.half_widths(flat)
    energy = _intervals([[r.energy_mj for r in row] for row in readings])
    memory = _intervals([[r.memory_mb for r in row] for row in readings])
    measurements = []
    for row, sessions in enumerate(readings):
        slices = np.concatenate([r.latency_ms for r in sessions])
        low, high, p90 = np.percentile(slices, [25, 75, 90])
        median = float(np.median(flat[row]))
        own = row == sentinel
        measurements.append(
            Measurement(
                platform=platform,
                median_ms=median,
                iqr_ms=float(high - low),
                p90_ms=float(p90),
                count=len(slices),
                verdict=statistics.verdict(flat[row], conditions.waited(sessions)),
                half_width_ms=float(halves[row] * median),
                sessions_ms=tuple(flat[row].tolist()),
                ratio=None if sentinel is None or own else float(np.median(flat[row]) / np.median(flat[sentinel])),
                energy_mj=energy[row][0],
                memory_mb=memory[row][0],
                environment=environment or {},
                rounds_ms=tuple(values[row].tolist()),
                energy_half_width_mj=energy[row][1],
                memory_half_width_mb=memory[row][1],
            )
        )
    return measurements


def _levels(readings: Sequence[Sequence[Reading]]) -> statistics.Values:
    """Return the latency of each session, ``(networks, rounds)``."""
    return np.array([[statistics.session_level(r.latency_ms) for r in row] for row in readings])


def _intervals(table: Sequence[Sequence[float | None]]) -> list[tuple[float | None, float | None]]:
    """Return each network's median of what is known, and half the interval of it; ``None`` for what cannot be said.

    A network with a reading missing, or whose median is not positive, has no interval; the others keep theirs.

    Args:
        table: by network and round.
    """
    known = [[value for value in row if value is not None] for row in table]
    medians = [float(np.median(row)) if row else None for row in known]
    whole = [i for i, median in enumerate(medians) if median and median > 0 and len(known[i]) == len(table[i])]
    halves = statistics.half_widths(np.array([known[i] for i in whole])).tolist() if whole else []
    relative = dict(zip(whole, halves, strict=True))
    return [
        (median, relative[i] * median if median is not None and i in relative else None)
        for i, median in enumerate(medians)
    ]


def measure_model(
    model: nn.Module,
    example_inputs: Any,
    platform: str | Platform = "local/onnxruntime?threads=1",
    *,
    protocol: StopwatchProtocol | None = None,
) -> Measurement:
    """Compile a network for a platform and measure it.

    Args:
        model: left as it is.
        example_inputs: tensor, tuple or dict; the deployment shape, batch included.
        platform: a platform or its string.
        protocol: default `StopwatchProtocol()`.

    Raises:
        PlatformError: the platform is unknown, not installed, or cannot run this network.
        MeasurementUnusable: others hold the measuring lock, or a session took too long.
    """
    with _opened(platform) as opened, tempfile.TemporaryDirectory(prefix="netadapt-") as folder:
        artifact = opened.compile(model, example_inputs, Path(folder))
        return measure(opened, [artifact], protocol=protocol)[0]


def measure_files(
    files: Sequence[Path],
    platform: str | Platform = "local/onnxruntime?threads=1",
    *,
    protocol: StopwatchProtocol | None = None,
    progress: Progress | None = None,
) -> list[Measurement]:
    """Measure files that the platform's runtime loads, interleaved with each other.

    Args:
        files: e.g. ONNX files for onnxruntime.
        platform: a platform or its string.
        protocol: default `StopwatchProtocol()`.
        progress: called with the sessions done and in total.

    Raises:
        PlatformError: a file does not exist or the runtime cannot run it.
    """
    from netadapt.platforms.artifacts import artifact_of

    with _opened(platform) as opened:
        return measure(opened, [artifact_of(Path(f)) for f in files], protocol=protocol, progress=progress)


class _opened:  # noqa: N801  used as a function
    """A platform for a ``with`` block: one given is left open, one named is resolved and closed."""

    def __init__(self, platform: str | Platform) -> None:
        self._platform = platform

    def __enter__(self) -> Platform:
        from netadapt.platforms.registry import resolve_platform

        self._own = isinstance(self._platform, str)
        self._opened = resolve_platform(self._platform) if isinstance(self._platform, str) else self._platform
        return self._opened

    def __exit__(self, *_: object) -> None:
        if self._own:
            self._opened.close()
