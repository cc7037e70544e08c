"""Writes what a benchmark found to benchmarks/results/NAME.json, with all that is needed to repeat it."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from netadapt.files import write_atomic
from netadapt.platforms.environment import NOT_INSTALLED, package_version

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("netadapt", "torch", "numpy", "scipy", "onnxruntime")
_RUNTIMES = ("openvino", "ncnn", "pnnx", "litert-torch", "ai-edge-litert", "executorch")  # where they are installed


def record(name: str, values: Mapping[str, Any], seed: int) -> Path:
    """Write ``values`` with seed, machine, versions and command.

    Args:
        name: of the file, without ending; an earlier result of that name is replaced.
        values: anything that JSON can hold; units in the keys.
        seed: of everything that was drawn.

    Returns:
        The file written.
    """
    return write(RESULTS / f"{name}.json", {"name": name, "values": dict(values), "seed": seed, **provenance()})


def provenance() -> dict[str, Any]:
    """Return what every result says of its making: command, date (ISO 8601, UTC), machine and versions."""
    return {
        "command": " ".join(["python", *(_relative(word) for word in sys.argv)]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {package: version(package) for package in _PACKAGES} | _runtimes(),
    }


def write(path: Path, document: Mapping[str, Any]) -> Path:
    """Write a result as JSON, whole or not at all, and return its path; NaN and infinity are refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
    return path


def machine() -> dict[str, Any]:
    """Return processor, cores, load and system."""
    about = Path("/proc/cpuinfo")
    return {
        "processor": processor(about.read_text()) if about.exists() else platform.processor(),
        "cores": os.cpu_count(),
        "load_1_min": round(os.getloadavg()[0], 2),
        "threads": os.environ.get("OMP_NUM_THREADS", "unset"),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }


def processor(cpuinfo: str) -> str:
    """Return what a processor is called; a name that many kinds share (no digit in it) with family and model.

    Args:
        cpuinfo: content of ``/proc/cpuinfo``.
    """
    told: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        told.setdefault(key.strip(), value.strip())
    name = told.get("model name", platform.processor())
    if re.search(r"\d", name) or "cpu family" not in told:
        return name
    return f"{name} (family {told['cpu family']}, model {told['model']})"


def processor_name(processor: str) -> str:
    """Return the name of a processor as folders and headings have it, e.g. ``amd-epyc``."""
    plain = re.sub(r"\((r|tm)\)|\bprocessor\b", " ", processor.lower())
    return re.sub(r"[^a-z0-9.]+", "-", plain).strip("-")


def processor_here() -> str:
    """Return the name of this machine's processor: what is found here lies in a folder or file of that name."""
    return processor_name(machine()["processor"])


def _runtimes() -> dict[str, str]:
    found = {package: package_version(package) for package in _RUNTIMES}
    return {package: told for package, told in found.items() if told != NOT_INSTALLED}


def _relative(word: str) -> str:
    root = f"{Path(__file__).parents[1]}/"
    return word.removeprefix(root)
