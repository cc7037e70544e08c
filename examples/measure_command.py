#!/usr/bin/env python3
"""A measuring program for platforms of the kind ``command:``: copy it and change what your device needs.

    netadapt measure MODEL --platform "command:./measure_command.py"
    netadapt measure MODEL --platform "command:./measure_command.py --energy-counter FILE?resources=latency,energy"

netadapt appends the path of an ONNX file. The program times it, here with onnxruntime on this machine, and prints one
JSON object. Yours may copy the file to a board, run anything there and read a power meter; ``latency_ms`` is all it
must print. FILE holds microjoules since some start, as ``/sys/class/powercap/intel-rapl:0/energy_uj`` does (readable by
root only on most systems); a power meter's reading would go in the same place.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path


def opened(model: Path) -> Callable[[], object]:
    """Return a function that makes one inference of ``model`` on zeros with one thread."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    feeds = {entry.name: np.zeros(entry.shape, np.float32) for entry in session.get_inputs()}
    return lambda: session.run(None, feeds)


def timed(run: Callable[[], object], seconds: float) -> list[float]:
    """Return the milliseconds of each inference for about ``seconds``."""
    latencies: list[float] = []
    end = time.monotonic() + seconds
    while len(latencies) < 3 or time.monotonic() < end:
        start = time.perf_counter_ns()
        run()
        latencies.append((time.perf_counter_ns() - start) / 1e6)
    return latencies


def main() -> None:
    """Time the file and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the ONNX file, appended by netadapt")
    parser.add_argument("--energy-counter", type=Path, help="a file with a number of microjoules that grows")
    arguments = parser.parse_args()

    seconds = float(os.environ.get("NETADAPT_SECONDS", "0.05"))
    run = opened(arguments.model)
    for _ in range(int(os.environ.get("NETADAPT_WARMUPS", "3"))):
        run()
    if arguments.energy_counter is None:
        print(json.dumps({"latency_ms": timed(run, seconds)}))
        return

    def microjoules() -> int:
        return int(arguments.energy_counter.read_text())

    # Idle power first, then the same with inferences; counters move about every millisecond, so a second is enough.
    seconds = max(seconds, 1.0)
    idle_start = microjoules()
    time.sleep(seconds)
    idle_uj_per_s = (microjoules() - idle_start) / seconds
    start_uj, start = microjoules(), time.monotonic()
    latencies = timed(run, seconds)
    busy_uj = microjoules() - start_uj - idle_uj_per_s * (time.monotonic() - start)
    answer = {"latency_ms": latencies, "energy_mj": busy_uj / 1000 / len(latencies), "idle_w": idle_uj_per_s / 1e6}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
