"""Runtimes on devices, and the stopwatch that measures networks on them."""

from __future__ import annotations

from netadapt.platforms.base import Artifact, Measurement, Platform, Reading, Verdict
from netadapt.platforms.lock import MeasuringLock, measuring_lock
from netadapt.platforms.registry import PlatformInfo, list_platforms, resolve_platform
from netadapt.platforms.stopwatch import StopwatchProtocol, measure_files
from netadapt.platforms.stopwatch import measure_model as measure

__all__ = [
    "Artifact",
    "Measurement",
    "MeasuringLock",
    "Platform",
    "PlatformInfo",
    "Reading",
    "StopwatchProtocol",
    "Verdict",
    "list_platforms",
    "measure",
    "measure_files",
    "measuring_lock",
    "resolve_platform",
]
