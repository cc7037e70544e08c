"""The small process that times ONNX files: it imports numpy and onnxruntime only and forks a fresh child per session.

Started by path by `session_client.py` (never imported by it), so that no torch weighs on the memory of what is timed.
It reads one JSON object per line on stdin and answers one per line on stdout; it ends when stdin closes or its
parent is gone. A session is cheap that way, and still fresh in memory placement, where most of the noise comes from.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

SLICE_NS = 6_000_000
MINIMUM_SLICES = 3
TAIL_BYTES = 2000
# y = Relu(x) on one float: what the runtime itself costs in memory is measured with it.
EMPTY_MODEL = bytes.fromhex(
    "080812003a330a0c0a0178120179220452656c751201655a0f0a0178120a0a08080112040a02"
    "0801620f0a0179120a0a08080112040a02080142040a00100d"
)


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


def random_inputs(session: Any) -> dict[str, Any]:
    """Return one array per input of ``session``: random normal with a fixed seed, zeros and ones for integers.

    Raises:
        ValueError: a dimension is not fixed (a free first one counts as 1), or the type is not a plain number.
    """
    import numpy as np

    types = {
        "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
        "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(int8)": np.int8,
        "tensor(uint8)": np.uint8, "tensor(bool)": np.bool_,
    }  # fmt: skip
    random = np.random.default_rng(0)
    feeds = {}
    for entry in session.get_inputs():
        if entry.type not in types:
            raise ValueError(f"input {entry.name!r} has type {entry.type}; allowed: {', '.join(types)}")
        shape = [1 if i == 0 and not isinstance(size, int) else size for i, size in enumerate(entry.shape)]
        if not all(isinstance(size, int) and size > 0 for size in shape):
            raise ValueError(f"input {entry.name!r} has shape {entry.shape}; export it with fixed sizes")
        values = random.standard_normal(shape)
        dtype = np.dtype(types[entry.type])
        feeds[entry.name] = (values if dtype.kind == "f" else values > 0).astype(dtype)
    return feeds


def open_session(model: str | bytes, threads: int) -> Any:
    """Return a session as most users deploy it: all optimisations, ``threads`` of them, defaults elsewhere."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def time_slices(session: Any, feeds: dict[str, Any], seconds: float, warmups: int) -> list[float]:
    """Return the mean latency (ms) of each slice of about 6 ms, for ``seconds`` after ``warmups`` inferences."""
    clock = time.perf_counter_ns
    shortest = 10**12
    for _ in range(max(warmups, 1)):
        start = clock()
        session.run(None, feeds)
        shortest = min(shortest, clock() - start)
    repeats = max(1, round(SLICE_NS / max(shortest, 1)))
    slices: list[float] = []
    end = clock() + int(seconds * 1e9)
    while len(slices) < MINIMUM_SLICES or clock() < end:
        start = clock()
        for _ in range(repeats):
            session.run(None, feeds)
        slices.append((clock() - start) / repeats / 1e6)
    return slices


def run_session(request: dict[str, Any]) -> dict[str, Any]:
    """Time one file in this process and return latencies (ms) and the peak resident size (bytes)."""
    if request["cores"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, request["cores"])
    gc.disable()
    session = open_session(request["model"] or EMPTY_MODEL, request["threads"])
    feeds = random_inputs(session)
    slices = time_slices(session, feeds, request["seconds"], request["warmups"])
    return {"latency_ms": slices, "peak_bytes": peak_bytes()}


def child(request: dict[str, Any], answer: int, errors: int) -> NoReturn:
    """Be the session: write one JSON object to ``answer`` and leave without any clean-up of the server's state."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    try:
        result = run_session(request)
    except Exception as error:  # noqa: BLE001  whatever the runtime raises is the client's to report
        result = {"error": f"{type(error).__name__}: {error}"}
    os.write(answer, json.dumps(result).encode() + b"\n")
    os._exit(0)


def collect(pid: int, answer: int, limit_s: float, parent: int) -> bytes | None:
    """Read all that the child writes; ``None`` if it passed ``limit_s``. Ends the server if the client is gone."""
    deadline = time.monotonic() + limit_s
    chunks: list[bytes] = []
    while True:
        ready, _, _ = select.select([answer, 0], [], [], 1.0)
        # The client never writes while it waits, so a readable stdin means that it closed it.
        if 0 in ready or os.getppid() != parent:
            os.kill(pid, signal.SIGKILL)
            os._exit(0)
        if answer in ready:
            chunk = os.read(answer, 1 << 16)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            return None


def fork_session(request: dict[str, Any], parent: int) -> dict[str, Any]:
    """Run one session in a fresh child and return its answer, or ``error``, ``died`` or ``timeout``."""
    read, write = os.pipe()
    with tempfile.TemporaryFile() as errors:
        pid = os.fork()
        if pid == 0:
            os.close(read)
            child(request, write, errors.fileno())
        os.close(write)
        output = collect(pid, read, request["limit_s"], parent)
        os.close(read)
        _, status = os.waitpid(pid, 0)
        size = errors.seek(0, os.SEEK_END)
        errors.seek(max(0, size - TAIL_BYTES))
        tail = errors.read().decode(errors="replace").strip()
    if output is None:
        return {"timeout": request["limit_s"], "stderr": tail}
    if not output.endswith(b"\n"):
        return {"died": os.waitstatus_to_exitcode(status), "stderr": tail}
    answer: dict[str, Any] = json.loads(output)
    return answer | {"stderr": tail}


def respond(request: dict[str, Any], empty: dict[int, int], parent: int) -> dict[str, Any]:
    """Run the session of ``request``; memory is what it takes above an empty runtime (kept in ``empty`` by threads)."""
    threads = request["threads"]
    if threads not in empty:
        idle = fork_session(request | {"model": None, "seconds": 0.0, "warmups": 1}, parent)
        empty[threads] = idle.get("peak_bytes") or 0
    answer = fork_session(request, parent)
    peak = answer.pop("peak_bytes", None)
    if peak is not None and empty[threads]:
        answer["memory_mb"] = max(0.0, (peak - empty[threads]) / 1e6)
    return answer


def main() -> None:
    """Serve until stdin closes."""
    parent = os.getppid()
    # Whatever a library prints must not end up between our lines.
    replies = os.dup(1)
    os.dup2(2, 1)
    import numpy  # noqa: F401  children find it imported
    import onnxruntime

    gc.collect()
    gc.freeze()
    os.write(replies, json.dumps({"version": onnxruntime.__version__}).encode() + b"\n")
    empty: dict[int, int] = {}
    buffer = b""
    while chunk := os.read(0, 1 << 16):
        buffer += chunk
        while b"\n" in buffer:
            line, buffer = buffer.split(b"\n", 1)
            answer = respond(json.loads(line), empty, parent)
            os.write(replies, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
