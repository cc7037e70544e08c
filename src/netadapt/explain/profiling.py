"""Takes the times of layers from a runtime's profiler: several fresh sessions of both networks in turn, medians."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from netadapt.explain.causes import LayerTime
from netadapt.platforms.base import Artifact, OperationTime, Platform
from netadapt.platforms.lock import measuring_lock

Profile = Sequence[OperationTime]
_REORDERS = ("reorder", "convertlayout")  # kinds of operations that only rearrange memory


@dataclass(frozen=True)
class Times:
    """What the profiles of one network say.

    Attributes:
        layers: by name of the layer.
        other_ms: operations whose names tell no layer.
        shortest_ms: the shortest operation: no call costs less.
    """

    layers: Mapping[str, LayerTime]
    other_ms: float
    shortest_ms: float


def take_profiles(
    platform: Platform,
    artifacts: Sequence[Artifact],
    *,
    repeats: int = 5,
    seconds: float = 0.2,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[Profile]] | None:
    """Profile files in turn, holding the machine-wide measuring lock, and return the profiles of each.

    Args:
        platform: where.
        artifacts: compiled beforehand.
        repeats: fresh sessions per file.
        seconds: per session.
        progress: called with the sessions done and in all.

    Returns:
        ``None`` if the platform has no profiler.

    Raises:
        PlatformError: the runtime cannot run a file.
        MeasurementUnusable: others hold the measuring lock, or a session took too long.
    """
    profile = getattr(platform, "profile", None)
    if profile is None:
        return None
    found: list[list[Profile]] = [[] for _ in artifacts]
    with measuring_lock.hold(platform.name) if getattr(platform, "exclusive", True) else nullcontext():
        for done in range(repeats * len(artifacts)):
            which = done % len(artifacts)
            taken = profile(artifacts[which], seconds=seconds)
            if taken is None:
                return None
            found[which].append(taken)
            if progress is not None:
                progress(done + 1, repeats * len(artifacts))
    return found


def times_of(profiles: Sequence[Profile], names: Callable[[str], str | None]) -> Times:
    """Return the time of every layer: medians over profiles of one network.

    Args:
        profiles: at least one.
        names: gives the layer that an operation belongs to by its name; ``None`` where that does not tell.
    """
    single = [_of_one(profile, names) for profile in profiles]
    found = {name: _median([times[name] for times in single if name in times]) for times in single for name in times}
    other = found.pop(None, LayerTime(0.0))
    shortest = float(np.median([min((op.latency_ms for op in profile), default=0.0) for profile in profiles]))
    return Times({name: time for name, time in found.items() if name is not None}, other.latency_ms, shortest)


def _of_one(profile: Profile, names: Callable[[str], str | None]) -> dict[str | None, LayerTime]:
    """Return the times of one profile by layer; those of no layer under ``None``."""
    homes = _homes(profile, names)
    found: dict[str | None, LayerTime] = {}
    for home in dict.fromkeys(homes):
        mine = [operation for operation, place in zip(profile, homes, strict=True) if place == home]
        moving = sum(operation.latency_ms for operation in mine if _rearranges(operation))
        computing = [operation for operation in mine if not _rearranges(operation)]
        kernel = max(computing, key=lambda operation: operation.latency_ms).kind if computing else ""
        found[home] = LayerTime(sum(operation.latency_ms for operation in mine), 0.0, moving, kernel)
    return found


def _homes(profile: Profile, names: Callable[[str], str | None]) -> list[str | None]:
    """Return the layer of each operation; rearranged memory counts for the layer that needs it so."""
    homes = [None if _rearranges(operation) else names(operation.name) for operation in profile]
    for place, operation in enumerate(profile):
        if _rearranges(operation):
            before, after = [h for h in homes[:place] if h], [h for h in homes[place + 1 :] if h]
            # What undoes a layout belongs to the layer that had it.
            order = [before[-1:], after[:1]] if "output" in operation.kind.lower() else [after[:1], before[-1:]]
            homes[place] = next((home for found in order for home in found), None)
    return homes


def _rearranges(operation: OperationTime) -> bool:
    return operation.kind.lower().startswith(_REORDERS)


def _median(times: Sequence[LayerTime]) -> LayerTime:
    latencies = [time.latency_ms for time in times]
    low, middle, high = np.percentile(latencies, [25, 50, 75])
    moving = float(np.median([time.reorder_ms for time in times]))
    return LayerTime(float(middle), float(high - low) / 2, moving, times[0].kernel)
