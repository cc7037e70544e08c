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
TASKS = Path("/proc/self/task")

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


def waited_ns() -> dict[str, int] | None:
    """Return how long each thread was ready to run but had no core so far; ``None`` where nobody tells."""
    try:
        return {path.parent.name: int(path.read_text().split()[1]) for path in TASKS.glob("*/schedstat")} or None
    except (OSError, ValueError, IndexError):
        return None


def longest_wait_s(before: dict[str, int] | None, after: dict[str, int] | None) -> float | None:
    """Return how long the thread that waited most did so between two calls of `waited_ns`; ``None`` if nobody tells."""
    if before is None or after is None:
        return None
    return max(0, *(total - before.get(thread, 0) for thread, total in after.items())) / 1e9


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


def time_slices(run: Run, seconds: float, warmups: int, elapsed: Callable[[Run, int], float]) -> dict[str, Any]:
    """Time slices of about 6 ms for ``seconds`` after ``warmups`` inferences.

    Returns:
        ``latency_ms`` of one inference in each slice; ``inferences`` in all; ``window_s``, beginning and end on the
        monotonic clock, which all processes of a machine share; and ``waited``, the share of the window in which the
        thread that waited most was ready to run but had no core (``None`` where the system does not tell).
    """
    shortest = min(elapsed(run, 1) for _ in range(max(warmups, 1)))
    repeats = max(1, round(SLICE_MS / max(shortest, 1e-6)))
    slices: list[float] = []
    before, began = waited_ns(), time.monotonic()
    while len(slices) < MINIMUM_SLICES or time.monotonic() < began + seconds:
        slices.append(elapsed(run, repeats) / repeats)
    ended, waited = time.monotonic(), longest_wait_s(before, waited_ns())
    return {
        "latency_ms": slices,
        "inferences": repeats * len(slices),
        "window_s": [began, ended],
        "waited": None if waited is None else waited / (ended - began),
    }


def run_session(request: dict[str, Any]) -> dict[str, Any]:
    """Time one file in this process.

    Args:
        request: ``runtime``, ``model`` (path or ``None``), ``options``, ``threads``, ``cores`` (empty: any),
            ``seconds``, ``warmups``; or, with ``profile`` true, ``seconds`` only.

    Returns:
        What `time_slices` gives, and ``peak_bytes``, the peak resident size; for a profile ``operations``, which are
        ``None`` if the runtime has no profiler.
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
    timed = time_slices(run, request["seconds"], request["warmups"], getattr(engine, "elapsed_ms", elapsed_ms))
    return timed | {"peak_bytes": peak_bytes()}
