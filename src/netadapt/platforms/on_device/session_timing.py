"""Times one file in this process: imported by what runs on a device, with nothing but Python's own library.

Each runtime is a module ``engine_NAME`` beside this one with

* ``version() -> str``: imports the runtime and says which it is;
* ``open_model(path, threads, options) -> run``: loads a file, as most users deploy it, and returns a function without
  arguments that makes one inference on fixed inputs; ``path`` is ``None`` for the smallest network there is, with
  which the runtime's own memory is measured;
* optionally ``elapsed_ms(run, repeats) -> float`` where the processor's clock does not tell (a GPU);
* optionally ``profile(path, threads, options, seconds) -> list`` where the runtime has a profiler: one
  ``{"name", "kind", "latency_ms"}`` per operation that it runs, in order of execution.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SLICE_MS = 6.0
MINIMUM_SLICES = 3

Run = Callable[[], object]


def engine_of(runtime: str) -> Any:
    """Return the module that loads files with ``runtime``."""
    return importlib.import_module(f"engine_{runtime}")


def peak_bytes() -> int | None:
    """Return the peak resident size of this process, or ``None`` where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def random_array(shape: Sequence[int], dtype: str) -> Any:
    """Return an array of numpy's ``dtype``: random normal with a fixed seed; zeros and ones for integers.

    Raises:
        ValueError: a size is not a positive number.
    """
    import numpy as np

    if not all(isinstance(size, int) and size > 0 for size in shape):
        raise ValueError(f"an input has shape {list(shape)}; export it with fixed sizes")
    values, kind = np.random.default_rng(0).standard_normal(tuple(shape)), np.dtype(dtype)
    return (values if kind.kind == "f" else values > 0).astype(kind)


def elapsed_ms(run: Run, repeats: int) -> float:
    """Return the milliseconds that ``repeats`` inferences take."""
    start = time.perf_counter_ns()
    for _ in range(repeats):
        run()
    return (time.perf_counter_ns() - start) / 1e6


def time_slices(run: Run, seconds: float, warmups: int, elapsed: Callable[[Run, int], float]) -> list[float]:
    """Return the mean latency (ms) of each slice of about 6 ms, for ``seconds`` after ``warmups`` inferences."""
    shortest = min(elapsed(run, 1) for _ in range(max(warmups, 1)))
    repeats = max(1, round(SLICE_MS / max(shortest, 1e-6)))
    slices: list[float] = []
    end = time.monotonic() + seconds
    while len(slices) < MINIMUM_SLICES or time.monotonic() < end:
        slices.append(elapsed(run, repeats) / repeats)
    return slices


def run_session(request: dict[str, Any]) -> dict[str, Any]:
    """Time one file in this process.

    Args:
        request: ``runtime``, ``model`` (path or ``None``), ``options``, ``threads``, ``cores`` (empty: any),
            ``seconds``, ``warmups``; or, with ``profile`` true, ``seconds`` only.

    Returns:
        ``latency_ms`` of each slice and ``peak_bytes``, the peak resident size; for a profile ``operations``, which
        are ``None`` if the runtime has no profiler.
    """
    if request["cores"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, request["cores"])
    gc.disable()
    engine = engine_of(request["runtime"])
    if request.get("profile"):
        profile = getattr(engine, "profile", None)
        found = profile and profile(request["model"], request["threads"], request["options"], request["seconds"])
        return {"operations": found}
    run = engine.open_model(request["model"], request["threads"], request["options"])
    slices = time_slices(run, request["seconds"], request["warmups"], getattr(engine, "elapsed_ms", elapsed_ms))
    return {"latency_ms": slices, "peak_bytes": peak_bytes()}
