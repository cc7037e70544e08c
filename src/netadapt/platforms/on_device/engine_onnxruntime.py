"""onnxruntime's side of a session: loads an ONNX file with its processor provider, or with CUDA's."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# y = Relu(x) on one float: what the runtime itself costs in memory is measured with it.
EMPTY_MODEL = bytes.fromhex(
    "080812003a330a0c0a0178120179220452656c751201655a0f0a0178120a0a08080112040a02"
    "0801620f0a0179120a0a08080112040a02080142040a00100d"
)
WARMUPS = 5  # inferences whose trace is left out
FEWEST_RUNS, MOST_RUNS = 10, 300  # inferences that are traced; a trace takes about 700 bytes per operation
PROCESSOR, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
KERNEL, BLOCKED = "_kernel_time", "_nchwc"  # how the runtime marks kernels, and operations on its own blocked layout
TYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(int64)": "int64",
    "tensor(int32)": "int32", "tensor(int8)": "int8", "tensor(uint8)": "uint8", "tensor(bool)": "bool",
}  # fmt: skip


def version() -> str:
    """Import the runtime and return its version."""
    import numpy  # noqa: F401  what is forked later finds it imported
    import onnxruntime

    return str(onnxruntime.__version__)


def require_cuda() -> None:
    """Check that onnxruntime has the CUDA provider; whether there is a GPU shows when a file is loaded.

    Raises:
        RuntimeError: it has not.
    """
    import onnxruntime

    if CUDA not in onnxruntime.get_available_providers():
        raise RuntimeError("cuda=true, but this onnxruntime has no CUDA provider; run: pip install onnxruntime-gpu")


def open_model(path: str | None, threads: int, options: dict[str, Any]) -> Callable[[], object]:
    """Load a file as most users deploy it: all optimisations, ``threads`` threads, defaults elsewhere.

    Raises:
        ValueError: an input has a free size (a free first one counts as 1), or a type that is no plain number.
        RuntimeError: ``cuda`` is among the options and there is no such provider here.
    """
    session = _session(path or EMPTY_MODEL, _settings(threads), options)
    return _run(session)


def profile(path: str, threads: int, options: dict[str, Any], seconds: float) -> list[dict[str, Any]] | None:
    """Return what each operation takes, from the runtime's own trace of its inferences; ``None`` on a GPU.

    There its trace tells what it took to ask for an operation, not the operation.

    Raises:
        ValueError, RuntimeError: as `open_model`.
    """
    if options.get("cuda"):
        return None
    with tempfile.TemporaryDirectory(prefix="netadapt-") as folder:
        chosen = _settings(threads)
        chosen.enable_profiling = True
        chosen.profile_file_prefix = str(Path(folder) / "profile")
        session = _session(path, chosen, options)
        run = _run(session)
        end, runs = time.monotonic() + seconds, 0
        while runs < WARMUPS + FEWEST_RUNS or (time.monotonic() < end and runs < WARMUPS + MOST_RUNS):
            run()
            runs += 1
        events = json.loads(Path(session.end_profiling()).read_text())
    return operations(events, runs)


def operations(events: list[dict[str, Any]], runs: int) -> list[dict[str, Any]]:
    """Return the operations of a trace in order of execution, without those of the warm-ups.

    Args:
        events: of the trace; those of nodes end in ``_kernel_time`` and last ``dur`` whole microseconds.
        runs: inferences in it; a node in a loop has several events in each.
    """
    durations: dict[tuple[str, str], list[int]] = {}
    for event in sorted(events, key=lambda event: event["ts"]):
        name = event["name"]
        if event["cat"] == "Node" and name.endswith(KERNEL):
            kind = event["args"]["op_name"] + (" (blocked)" if name.endswith(BLOCKED + KERNEL) else "")
            durations.setdefault((name.removesuffix(KERNEL), kind), []).append(event["dur"])
    found = []
    for (name, kind), values in durations.items():
        calls = max(1, len(values) // runs)
        latency_ms = calls * _middle(values[calls * WARMUPS :] or values) / 1e3
        found.append({"name": name, "kind": kind, "latency_ms": latency_ms})
    return found


def _middle(values: list[int]) -> float:
    """Return the mean of the middle half: as robust as the median, and finer than the whole numbers it is made of."""
    quarter = len(values) // 4
    middle = sorted(values)[quarter : len(values) - quarter]
    return sum(middle) / len(middle)


def _settings(threads: int) -> Any:
    import onnxruntime

    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = threads
    chosen.inter_op_num_threads = 1
    chosen.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    chosen.log_severity_level = 3
    return chosen


def _session(model: str | bytes, settings: Any, options: dict[str, Any]) -> Any:
    import onnxruntime

    if not options.get("cuda"):
        return onnxruntime.InferenceSession(model, settings, providers=[PROCESSOR])
    require_cuda()
    session = onnxruntime.InferenceSession(model, settings, providers=[(CUDA, {"use_tf32": 0}), PROCESSOR])
    if CUDA not in session.get_providers():  # it falls back without an error
        raise RuntimeError("cuda=true, but onnxruntime finds no usable GPU, CUDA or cuDNN here; leave cuda out")
    return session


def _run(session: Any) -> Callable[[], object]:
    feeds = {entry.name: _input(entry) for entry in session.get_inputs()}
    return lambda: session.run(None, feeds)


def _input(entry: Any) -> Any:
    if entry.type not in TYPES:
        raise ValueError(f"input {entry.name!r} has type {entry.type}; allowed: {', '.join(TYPES)}")
    from session_timing import random_array

    shape = [1 if i == 0 and not isinstance(size, int) else size for i, size in enumerate(entry.shape)]
    return random_array(shape, TYPES[entry.type])
