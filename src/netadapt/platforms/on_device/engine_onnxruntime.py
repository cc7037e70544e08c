"""onnxruntime's side of a session: loads an ONNX file with its processor provider."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from session_timing import random_array

# y = Relu(x) on one float: what the runtime itself costs in memory is measured with it.
EMPTY_MODEL = bytes.fromhex(
    "080812003a330a0c0a0178120179220452656c751201655a0f0a0178120a0a08080112040a02"
    "0801620f0a0179120a0a08080112040a02080142040a00100d"
)
TYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(int64)": "int64",
    "tensor(int32)": "int32", "tensor(int8)": "int8", "tensor(uint8)": "uint8", "tensor(bool)": "bool",
}  # fmt: skip


def version() -> str:
    """Import the runtime and return its version."""
    import numpy  # noqa: F401  what is forked later finds it imported
    import onnxruntime

    return str(onnxruntime.__version__)


def open_model(path: str | None, threads: int, options: dict[str, Any]) -> Callable[[], object]:
    """Load a file as most users deploy it: all optimisations, ``threads`` threads, defaults elsewhere.

    Raises:
        ValueError: an input has a free size (a free first one counts as 1), or a type that is no plain number.
    """
    import onnxruntime

    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = threads
    chosen.inter_op_num_threads = 1
    chosen.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    chosen.log_severity_level = 3
    session = onnxruntime.InferenceSession(path or EMPTY_MODEL, chosen, providers=["CPUExecutionProvider"])
    feeds = {entry.name: _input(entry) for entry in session.get_inputs()}
    return lambda: session.run(None, feeds)


def _input(entry: Any) -> Any:
    if entry.type not in TYPES:
        raise ValueError(f"input {entry.name!r} has type {entry.type}; allowed: {', '.join(TYPES)}")
    shape = [1 if i == 0 and not isinstance(size, int) else size for i, size in enumerate(entry.shape)]
    return random_array(shape, TYPES[entry.type])
