"""openvino's side of a session: loads an ONNX file with its plugin for processors, tuned for latency, in float32."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

# y = Relu(x) on one float: what the runtime itself costs in memory is measured with it, reading ONNX included.
EMPTY_MODEL = bytes.fromhex(
    "080812003a330a0c0a0178120179220452656c751201655a0f0a0178120a0a08080112040a02"
    "0801620f0a0179120a0a08080112040a02080142040a00100d"
)
WARMUPS = 10  # inferences that do not count in a profile
FEWEST_RUNS = 50  # inferences that do; counters are whole microseconds


def version() -> str:
    """Import the runtime and return its version; no thread is started, so that forks are safe."""
    # Importing openvino reports the import to its makers, from a thread. Without this package it does neither.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return str(openvino.__version__)


def open_model(path: str | None, threads: int, options: dict[str, Any]) -> Callable[[], object]:
    """Load a file and return one inference on fixed inputs; outputs are not copied.

    Raises:
        ValueError: an input has a free size (a free first one counts as 1), or a type that is no plain number; or
            openvino does not grant the number of threads.
    """
    request = _request(compile_model(path, threads))
    return lambda: request.infer(share_outputs=True)


def profile(path: str, threads: int, options: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
    """Return what each operation takes, from the runtime's own counters.

    Raises:
        ValueError: as `open_model`.
    """
    compiled = compile_model(path, threads, counted=True)
    request = _request(compiled)
    for _ in range(WARMUPS):
        request.infer(share_outputs=True)
    before = _counters(request)
    end, runs = time.monotonic() + seconds, WARMUPS
    while runs < WARMUPS + FEWEST_RUNS or time.monotonic() < end:
        request.infer(share_outputs=True)
        runs += 1
    names = {operation.friendly_name: _name(operation) for operation in compiled.get_runtime_model().get_ops()}
    found = []
    for name, (kind, mean_ms) in _counters(request).items():
        latency_ms = without_warmups(mean_ms, before.get(name, (kind, 0.0))[1], runs)
        found.append({"name": names.get(name, name), "kind": kind, "latency_ms": latency_ms})
    return found


def without_warmups(mean_ms: float, warm_ms: float, runs: int) -> float:
    """Return the mean of the later inferences, of a counter that is the mean over all so far.

    Args:
        mean_ms: after ``runs`` inferences.
        warm_ms: after the warm-ups; 0 of an operation so short that its counter had not moved by then.
        runs: in all, more than `WARMUPS`.
    """
    return max(0.0, (runs * mean_ms - WARMUPS * warm_ms) / (runs - WARMUPS))


def _counters(request: Any) -> dict[str, tuple[str, float]]:
    """Return kind and mean milliseconds of the operations that were run, in order of execution."""
    return {
        entry.node_name: (f"{entry.node_type} ({entry.exec_type})", entry.real_time.total_seconds() * 1e3)
        for entry in request.profiling_info
        if entry.status == entry.Status.EXECUTED
    }


def _name(operation: Any) -> str:
    """Return an operation's path; one that gives an output of the network is named like that, its weights are not."""
    name = str(operation.friendly_name)
    if "/" in name:
        return name
    sources = [str(entry.get_source_output().get_node().friendly_name) for entry in operation.inputs()]
    return next((source.rpartition(".")[0] for source in sources if "." in source and "/" not in source), name)


def _request(compiled: Any) -> Any:
    """Return a request with fixed inputs."""
    import openvino
    from session_timing import random_array

    request = compiled.create_infer_request()
    for entry in compiled.inputs:
        request.set_tensor(entry, openvino.Tensor(random_array(list(entry.shape), _dtype(entry))))
    return request


def compile_model(path: str | None, threads: int, *, counted: bool = False) -> Any:
    """Return openvino's compiled model: latency hint, one stream, ``threads`` threads.

    The precision is float32 by command: otherwise openvino computes in bfloat16 or float16 on processors that can.

    Raises:
        ValueError: see `open_model`.
    """
    version()
    import openvino

    core = openvino.Core()
    model = core.read_model(EMPTY_MODEL if path is None else path)
    model.reshape({entry: _fixed_shape(entry) for entry in model.inputs})
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_HYPER_THREADING": True,  # the session's cores are given, whatever they share
        "PERF_COUNT": counted,
    }
    compiled = core.compile_model(model, "CPU", settings)
    granted = compiled.get_property("INFERENCE_NUM_THREADS")
    if granted != threads:
        raise ValueError(f"openvino would use {granted} threads of the {threads} asked for; ask for {granted}")
    return compiled


def _fixed_shape(entry: Any) -> list[int]:
    """Return an input's shape; a free first size counts as 1."""
    shape = entry.get_partial_shape()
    if shape.rank.is_dynamic or any(size.is_dynamic for size in list(shape)[1:]):
        raise ValueError(f"input {entry.any_name!r} has shape {shape}; export it with fixed sizes")
    return [1 if size.is_dynamic else size.get_length() for size in shape]


def _dtype(entry: Any) -> str:
    """Return numpy's name of an input's type."""
    try:
        return str(entry.element_type.to_dtype())
    except RuntimeError:
        raise ValueError(f"input {entry.any_name!r} has type {entry.element_type}, which is no plain number") from None
