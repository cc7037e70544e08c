"""A snapshot of the machine for the record of a measurement: processor, clocks, load, limits, versions.

Only reads; whatever cannot be read is left out. Called by the platforms' `environment` and `fingerprint`.
"""

from __future__ import annotations

import os
import platform as system
import time
from importlib import metadata
from pathlib import Path
from typing import Any

NOT_INSTALLED = "not installed"  #: the version of a distribution that is not there
_CPU = Path("/sys/devices/system/cpu")
#: flag of the system, float32 numbers at once, name of the instructions; the widest first
_VECTORS = (("avx512f", 16, "AVX-512"), ("avx2", 8, "AVX2"), ("asimd", 4, "Neon"), ("sse2", 4, "SSE2"))


def _read(path: Path) -> str | None:
    """Return the stripped text of a small system file, or ``None``."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def available_cores() -> tuple[int, ...]:
    """Return the processors that this process may run on, ascending."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def processor() -> str:
    """Return the processor's model name, or the architecture where the system does not tell."""
    for line in (_read(Path("/proc/cpuinfo")) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Hardware", "Processor") and value.strip():
            return value.strip()
    return system.processor() or system.machine()


def vector_of_processor() -> tuple[int, str] | None:
    """Return how many float32 numbers this processor computes at once, and the name of the instructions that do."""
    words: set[str] = set()
    for line in (_read(Path("/proc/cpuinfo")) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            words |= set(value.split())
    return next(((count, name) for flag, count, name in _VECTORS if flag in words), None)


def whole_vectors(channels: int, step: int) -> int:
    """Return ``channels`` rounded up to a multiple of ``step``, the channels that are computed at once."""
    return -(-channels // step) * step


def package_version(package: str) -> str:
    """Return the installed version of a distribution, or `NOT_INSTALLED`."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def frequency_mhz() -> float | None:
    """Return the mean clock of all cores as the system reports it now."""
    lines = (_read(Path("/proc/cpuinfo")) or "").splitlines()
    clocks = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return sum(clocks) / len(clocks) if clocks else None


def temperature_c() -> float | None:
    """Return the hottest thermal zone in degrees Celsius."""
    values = [_read(zone) for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp")]
    degrees = [int(value) / 1000 for value in values if value and value.lstrip("-").isdigit()]
    return max(degrees, default=None)


def turbo() -> bool | None:
    """Return whether the clock may exceed its nominal value."""
    if (value := _read(_CPU / "intel_pstate/no_turbo")) is not None:
        return value == "0"
    if (value := _read(_CPU / "cpufreq/boost")) is not None:
        return value == "1"
    return None


def cgroup_limits() -> dict[str, float]:
    """Return ``cpus`` and ``memory_mb`` that the control group (container) grants, where it limits them."""
    limits: dict[str, float] = {}
    root = Path("/sys/fs/cgroup")
    quota = (_read(root / "cpu.max") or "max").split()
    if len(quota) == 2 and quota[0] != "max":
        limits["cpus"] = int(quota[0]) / int(quota[1])
    memory = _read(root / "memory.max") or "max"
    if memory != "max":
        limits["memory_mb"] = int(memory) / 1e6
    return limits


def snapshot(packages: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what is known of this machine now, ready for JSON.

    Args:
        packages: distributions whose versions are recorded.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    seen = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": processor(),
        "architecture": system.machine(),
        "system": system.platform(),
        "python": system.python_version(),
        "cores": len(available_cores()),
        "governor": _read(_CPU / "cpu0/cpufreq/scaling_governor"),
        "turbo": turbo(),
        "frequency_mhz": frequency_mhz(),
        "temperature_c": temperature_c(),
        "load_1_min": load,
        "limits": cgroup_limits() or None,
        "versions": {package: package_version(package) for package in packages} or None,
    }
    return {key: value for key, value in seen.items() if value is not None}
