"""How much the latency of the same networks varies from one window of time to the next, on three scales.

    python benchmarks/moods.py [--windows 15] [--pause-s 12] [--model MODEL]

As it was measured, relative to the original of the same window, and by netadapt's yardsticks. Written to
results/moods/PROCESSOR.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from _record import RESULTS, processor_here, provenance, write
from numpy.typing import NDArray

from netadapt.models import resolve_model
from netadapt.network import trace
from netadapt.platforms import Platform, StopwatchProtocol, resolve_platform
from netadapt.platforms.stopwatch import measure
from netadapt.resources.designs import design
from netadapt.resources.yardsticks import on_scale, yardsticks

MODEL, PLATFORM = "mobilenet_v1?resolution=64&classes=50", "local/onnxruntime?threads=1"
_NETWORKS = 5  # beside the yardsticks
_SESSIONS = 9


def windows(model: str, platform: Platform, count: int, pause_s: float, seed: int) -> tuple[NDArray[np.float64], int]:
    """Return the latencies in ms of networks, ``(windows, networks)``, and how many of them, the first, are yardsticks.

    Args:
        model: MODEL text.
        platform: where.
        count: of windows.
        pause_s: seconds between them.
        seed: of the networks and of the orders.
    """
    network = trace(*resolve_model(model))
    known = yardsticks(network)
    with tempfile.TemporaryDirectory() as folder:
        rows = [*known, *design(network, _NETWORKS, seed)]
        artifacts = [platform.compile_widths(network, network.mapping(np.array(row)), Path(folder)) for row in rows]
        found = []
        for number in range(count):
            if number:
                time.sleep(pause_s)
            measured = measure(platform, artifacts, protocol=StopwatchProtocol(sessions=_SESSIONS), seed=seed + number)
            found.append([float(np.median(one.rounds_ms)) for one in measured])
    return np.array(found), len(known)


def variation(found_ms: NDArray[np.float64], count: int) -> dict[str, Any]:
    """Return by scale how much each network that is no yardstick varies: standard deviation over mean of the windows.

    Args:
        found_ms: ``(windows, networks)``; the first window is the one of reference, as in a run, and left out.
        count: how many of the networks, the first, are yardsticks.
    """
    reference, later = found_ms[0, :count], found_ms[1:]
    scales = {
        "raw": later[:, count:],
        "to_original": later[:, count:] / later[:, :1],
        "by_yardsticks": np.array([on_scale(row[count:], row[:count].tolist(), reference.tolist()) for row in later]),
    }
    return {name: (values.std(axis=0, ddof=1) / values.mean(axis=0)).tolist() for name, values in scales.items()}


def _told(values: Mapping[str, list[float]]) -> str:
    lines = []
    for name, spread in values.items():
        low, high = 100 * min(spread), 100 * max(spread)
        lines.append(f"{name:<14} median {100 * np.median(spread):.2f} %, {low:.2f} to {high:.2f} % by network")
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=15)
    parser.add_argument("--pause-s", type=float, default=12.0)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with closing(resolve_platform(PLATFORM)) as platform:
        found_ms, count = windows(arguments.model, platform, arguments.windows, arguments.pause_s, arguments.seed)
    values = variation(found_ms, count)
    print(_told(values))
    document = {"model": arguments.model, "platform": PLATFORM, "seed": arguments.seed, "values": values}
    document |= {"latency_ms": found_ms.tolist(), "yardsticks": count}
    print(write(RESULTS / "moods" / f"{processor_here()}.json", document | provenance()))


if __name__ == "__main__":
    main()
