"""The small process that times files: it imports one runtime only and forks a fresh child per session.

Started by path with the runtime's name by `devices/session_client.py` (never imported by it), so that no torch weighs
on the memory of what is timed. It reads one JSON object per line on stdin and answers one per line on stdout; it ends
when stdin closes or its parent is gone. A session is cheap that way, and still fresh in memory placement, where most
of the noise comes from.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn, Protocol

sys.path.insert(0, str(Path(__file__).parent))

from session_timing import engine_of, run_session

TAIL_BYTES = 2000
LEAST_BYTES = 1000  # a tiny network may take no more than the empty runtime; resources are compared by ratios
MOST_CHARACTERS = 2000  # of an error: some runtimes print the whole graph
_PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>


class Recorder(Protocol):
    """What reads a sensor while a session runs: `netadapt.platforms.energy.EnergyMeter`."""

    @property
    def interval_s(self) -> float:
        """Return the seconds between two samples."""

    def begin(self) -> None:
        """Take the first sample."""

    def sample(self) -> None:
        """Take another one."""


def child(request: dict[str, Any], answer: int, errors: int, server: int) -> NoReturn:
    """Be the session: write one JSON object to ``answer`` and leave without any clean-up of the server's state."""
    end_with(server)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    try:
        result = run_session(request)
    except Exception as error:  # noqa: BLE001  whatever the runtime raises is the client's to report
        result = {"error": f"{type(error).__name__}: {error}"[:MOST_CHARACTERS]}
    os.write(answer, json.dumps(result).encode() + b"\n")
    os._exit(0)


def end_with(parent: int) -> None:
    """Have the system kill this process when ``parent`` is killed, where it can: a long session would go on alone."""
    with contextlib.suppress(OSError, AttributeError):  # no such function outside Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def collect(pid: int, answer: int, limit_s: float, parent: int, recorder: Recorder | None) -> bytes | None:
    """Read all that the child writes; ``None`` if it passed ``limit_s``. Ends the server if the client is gone."""
    deadline = time.monotonic() + limit_s
    poll_s = 1.0 if recorder is None else recorder.interval_s
    chunks: list[bytes] = []
    while True:
        ready, _, _ = select.select([answer, 0], [], [], poll_s)
        if recorder is not None:
            recorder.sample()
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


def fork_session(request: dict[str, Any], parent: int, recorder: Recorder | None = None) -> dict[str, Any]:
    """Run one session in a fresh child and return its answer, or ``error``, ``died`` or ``timeout``."""
    if recorder is not None:
        recorder.begin()
    read, write = os.pipe()
    server = os.getpid()
    with tempfile.TemporaryFile() as errors:
        pid = os.fork()
        if pid == 0:
            os.close(read)
            child(request, write, errors.fileno(), server)
        os.close(write)
        try:
            output = collect(pid, read, request["limit_s"], parent, recorder)
        except BaseException:  # the sensor has gone
            os.kill(pid, signal.SIGKILL)
            raise
        finally:
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


def empty_bytes(request: dict[str, Any], parent: int) -> int:
    """Return what the runtime takes without a network; 0 if that failed twice, as a busy machine may once."""
    for _ in range(2):
        idle = fork_session(request | {"model": None, "seconds": 0.0, "warmups": 1}, parent)
        if idle.get("peak_bytes"):
            return int(idle["peak_bytes"])
    return 0


def respond(
    request: dict[str, Any], empty: dict[str, int], parent: int, recorder: Recorder | None = None
) -> dict[str, Any]:
    """Run the session of ``request``; memory is what it takes above an empty runtime, kept in ``empty``."""
    if request.get("profile"):
        return fork_session(request, parent)
    settings = json.dumps([request["threads"], request["options"]], sort_keys=True)
    if settings not in empty:
        empty[settings] = empty_bytes(request, parent)
    answer = fork_session(request, parent, recorder)
    peak = answer.pop("peak_bytes", None)
    if peak is not None and empty[settings]:
        answer["memory_mb"] = max(LEAST_BYTES, peak - empty[settings]) / 1e6
    return answer


def main() -> None:
    """Serve until stdin closes."""
    parent = os.getppid()
    # Whatever a library prints must not end up between our lines.
    replies = os.dup(1)
    os.dup2(2, 1)
    runtime = sys.argv[1]
    version = engine_of(runtime).version()  # children find it imported
    gc.collect()
    gc.freeze()
    os.write(replies, json.dumps({"version": version}).encode() + b"\n")
    empty: dict[str, int] = {}
    buffer = b""
    while chunk := os.read(0, 1 << 16):
        buffer += chunk
        while b"\n" in buffer:
            line, buffer = buffer.split(b"\n", 1)
            answer = respond(json.loads(line) | {"runtime": runtime}, empty, parent)
            os.write(replies, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
