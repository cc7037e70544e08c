"""Keeps a session server alive and asks it for timings; `local.py` is its only caller.

The server is started when first needed and again after it died or after a fork of this process; it is ended by
`close`, by garbage collection or by the death of this process, whichever comes first.
"""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from netadapt.errors import MeasurementUnusable, PlatformError
from netadapt.platforms.base import OperationTime, Reading

_log = logging.getLogger("netadapt")
_SERVER = Path(__file__).parents[1] / "on_device/session_server.py"
_GRACE_S = 30.0  # what the server may take beyond the limit it enforces on a session (it runs two at most)


def _end(process: subprocess.Popen[bytes], errors: IO[bytes], owner: int) -> None:
    """End the server; a forked copy of its owner leaves it alone."""
    errors.close()
    if os.getpid() != owner:
        return
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(timeout=5)  # it ends by itself when stdin closes
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def reading_of(answer: Mapping[str, Any]) -> Reading:
    """Return the reading in the answer of a session."""
    return Reading(
        latency_ms=tuple(answer["latency_ms"]), memory_mb=answer.get("memory_mb"), waited=answer.get("waited")
    )


class SessionClient:
    """Runs timing sessions through a server process.

    Args:
        runtime: whose engine the server loads, see `on_device/session_timing.py`.
        options: for the engine.
        threads: threads of the runtime inside a session.
        cores: processors that a session may run on; empty for any.
        limit_s: seconds after which a session is given up.
    """

    def __init__(
        self, runtime: str, options: Mapping[str, Any], *, threads: int, cores: tuple[int, ...], limit_s: float
    ) -> None:
        self._runtime, self._options = runtime, dict(options)
        self._threads, self._cores, self._limit_s = threads, cores, limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._errors: IO[bytes] | None = None
        self._finalizer: weakref.finalize[Any, Any] | None = None

    def run(self, model: Path, *, seconds: float, warmups: int) -> Reading:
        """Time the file ``model`` in a fresh session; see `answer`."""
        return reading_of(self.answer(model, seconds=seconds, warmups=warmups))

    def answer(self, model: Path, *, seconds: float, warmups: int) -> dict[str, Any]:
        """Time the file ``model`` in a fresh session and return what `on_device/session_timing.py` says of it.

        Args:
            model: a file that the runtime loads.
            seconds: how long to time after the warm-ups.
            warmups: inferences before timing.

        Raises:
            PlatformError: the runtime cannot run the file, or the session died.
            MeasurementUnusable: the session took longer than the limit.
        """
        return self._session(model, {"seconds": seconds, "warmups": warmups})

    def profile(self, model: Path, *, seconds: float) -> tuple[OperationTime, ...] | None:
        """Return what each operation of the file ``model`` takes in a fresh session, in order of execution.

        Args:
            model: a file that the runtime loads.
            seconds: how long inferences are repeated.

        Returns:
            ``None`` if the runtime has no profiler.

        Raises:
            PlatformError: the runtime cannot run the file, or the session died.
            MeasurementUnusable: the session took longer than the limit.
        """
        operations = self._session(model, {"profile": True, "seconds": seconds})["operations"]
        return None if operations is None else tuple(OperationTime(**operation) for operation in operations)

    def _session(self, model: Path, wish: dict[str, Any]) -> dict[str, Any]:
        """Run one session and return its answer; whatever went wrong in it is raised."""
        request = {
            "model": str(model),
            "options": self._options,
            "threads": self._threads,
            "cores": list(self._cores),
            "limit_s": self._limit_s,
        }
        answer = self._ask(request | wish)
        tail = f"\n{answer['stderr']}" if answer.get("stderr") else ""
        if "timeout" in answer:
            raise MeasurementUnusable(
                f"{self._runtime} did not finish a session of {model.name} within {self._limit_s:g} s; "
                f"is the machine overloaded? Otherwise use a smaller network or batch.{tail}"
            )
        if "died" in answer:
            raise PlatformError(
                f"the {self._runtime} session of {model.name} died with status {answer['died']} "
                f"(-9: killed, usually for want of memory).{tail}"
            )
        if "error" in answer:
            raise PlatformError(f"{self._runtime} cannot run {model.name}: {answer['error']}{tail}")
        return answer

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request; a server that died while idle is replaced once."""
        for attempt in (1, 2):
            process = self._running()
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                return self._answer(2 * self._limit_s + _GRACE_S)
            except (BrokenPipeError, EOFError) as error:
                tail = self._tail()
                self.close()
                if attempt == 2:
                    raise PlatformError(f"the {self._runtime} session server died.\n{tail}") from error
                _log.info("the %s session server died and is started again", self._runtime)
        raise AssertionError("unreachable")

    def _running(self) -> subprocess.Popen[bytes]:
        """Return the server, started if there is none that belongs to this process."""
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return self._process
        self.close()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the server
        # -P: what lies in the current folder must not shadow the runtime.
        # One BLAS thread: a process with several must not be forked.
        process = subprocess.Popen(
            [sys.executable, "-P", str(_SERVER), self._runtime],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is ours to handle
        )
        self._process, self._owner = process, os.getpid()
        self._finalizer = weakref.finalize(self, _end, process, self._errors, self._owner)
        try:
            self._answer(120.0)  # its greeting
        except EOFError as error:
            tail = self._tail()
            self.close()
            raise PlatformError(f"the {self._runtime} session server does not start.\n{tail}") from error
        return process

    def _answer(self, limit_s: float) -> dict[str, Any]:
        """Read one line from the server, blocked on the pipe (never spinning) so that nothing disturbs the session."""
        assert self._process is not None
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        deadline = time.monotonic() + limit_s
        buffer = bytearray()
        while not buffer.endswith(b"\n"):
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self._process.kill()
                self.close()
                raise MeasurementUnusable(f"the {self._runtime} session server gave no answer within {limit_s:g} s.")
            chunk = os.read(pipe, 1 << 16)
            if not chunk:
                raise EOFError
            buffer += chunk
        answer: dict[str, Any] = json.loads(buffer)
        return answer

    def _tail(self) -> str:
        """Return the end of what the server wrote to stderr."""
        if self._errors is None:
            return ""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 2000))
        return self._errors.read().decode(errors="replace").strip()

    def close(self) -> None:
        """End the server; idempotent."""
        if self._finalizer is not None:
            self._finalizer()
        self._process, self._finalizer, self._errors = None, None, None
