"""openvino's side of a session: loads an ONNX file with its plugin for processors, tuned for latency, in float32."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

# y = Relu(x) on one float: what the runtime itself costs in memory is measured with it, reading ONNX included.
EMPTY_MODEL = bytes.fromhex(
    "080812003a330a0c0a0178120179220452656c751201655a0f0a0178120a0a08080112040a02"
    "0801620f0a0179120a0a08080112040a02080142040a00100d"
)


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
    compiled = compile_model(path, threads)
    import openvino
    from session_timing import random_array

    request = compiled.create_infer_request()
    for entry in compiled.inputs:
        request.set_tensor(entry, openvino.Tensor(random_array(list(entry.shape), _dtype(entry))))
    return lambda: request.infer(share_outputs=True)


def compile_model(path: str | None, threads: int) -> Any:
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
