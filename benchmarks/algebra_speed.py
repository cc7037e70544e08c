"""How long one iteration's evaluation takes: all widths of all groups of MobileNetV2, counted and estimated.

    OMP_NUM_THREADS=1 python benchmarks/algebra_speed.py

Every group at all multiples of 8, and at up to 120 widths a group (the largest case): MACs, parameters and the latency
estimate. The estimator's data are simulated: only its own speed matters here.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from _record import record
from numpy.typing import NDArray

from netadapt.models import resolve_model
from netadapt.network import Network, trace
from netadapt.platforms.simulated import SimulatedPlatform
from netadapt.resources import NetworkModel, design

SEED = 0
REPEATS = 30


def candidates(network: Network, step: int, at_most: int) -> NDArray[np.int64]:
    """Return the original network with one group at another width, for all groups and widths."""
    original = np.array([group.width for group in network.groups])
    rows = []
    for column, group in enumerate(network.groups):
        widths = np.arange(step, group.width, step)
        chosen = widths[np.unique(np.linspace(0, len(widths) - 1, min(at_most, len(widths))).astype(int))]
        block = np.repeat(original[None], len(chosen), axis=0)
        block[:, column] = chosen
        rows.append(block)
    return np.concatenate(rows)


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Return median and quartiles of the wall time, and the median processor time, in milliseconds."""
    work()
    wall, processor = [], []
    for _ in range(REPEATS):
        began, busy = time.perf_counter(), time.process_time()
        work()
        wall.append(1e3 * (time.perf_counter() - began))
        processor.append(1e3 * (time.process_time() - busy))
    low, middle, high = np.percentile(wall, [25, 50, 75])
    return {
        "median_ms": round(float(middle), 3),
        "q25_ms": round(float(low), 3),
        "q75_ms": round(float(high), 3),
        "processor_ms": round(float(np.median(processor)), 3),
    }


def main() -> None:
    """Build, time, print, record."""
    network = trace(*resolve_model("mobilenet_v2"), prove=False)
    platform, seen = SimulatedPlatform(staircase=16), design(network, 64, SEED)
    truth = [platform.predict(network, network.mapping(row)).latency_ms for row in seen]
    model = NetworkModel(network)
    began = time.perf_counter()
    model.fit(seen, np.array(truth))
    values: dict[str, object] = {"groups": len(network.groups), "first_fit_s": round(time.perf_counter() - began, 3)}
    values["refit"] = timed(lambda: model.fit(seen, np.array(truth)))
    for name, step, at_most in (("multiples_of_8", 8, 10**6), ("up_to_120_widths_a_group", 1, 120)):
        rows = candidates(network, step, at_most)
        works = {"macs": network.macs_of, "parameters": network.parameters_of, "latency": model.estimate}
        values[name] = {"candidates": len(rows)} | {
            key: timed(lambda work=work, rows=rows: work(rows)) for key, work in works.items()
        }
    for key, value in values.items():
        print(f"{key}: {value}")
    print("written to", record("algebra_speed", values, SEED))


if __name__ == "__main__":
    main()
