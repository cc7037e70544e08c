"""Keeps a session server alive and asks it for timings; `local.py` is its only caller.

The server is started when first needed and again after it died or after a fork of this process.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netadapt.errors import MeasurementUnusable, PlatformError, SessionLost
from netadapt.platforms.base import OperationTime, Reading
from netadapt.platforms.server_process import ServerProcess

_log = logging.getLogger("netadapt")
_SERVER = Path(__file__).parents[1] / "on_device/session_server.py"
# One BLAS thread: a process with several must not be forked.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_START_LIMIT_S = 120.0
_GRACE_S = 30.0  # what the server may take beyond the limit it enforces on a session (it runs two at most)


def reading_of(answer: Mapping[str, Any]) -> Reading:
    """Return the reading in the answer of a session."""
    return Reading(
        latency_ms=tuple(answer["latency_ms"]),
        energy_mj=answer.get("energy_mj"),
        memory_mb=answer.get("memory_mb"),
        waited=answer.get("waited"),
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
        self._process = ServerProcess(_SERVER, runtime, environment=_ONE_THREAD, patience_s=5.0)

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
            PlatformError: the runtime cannot run the file.
            SessionLost: the session died.
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
            PlatformError: the runtime cannot run the file.
            SessionLost: the session died.
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
            raise SessionLost(
                f"the {self._runtime} session of {model.name} died with status {answer['died']} "
                f"(-9: killed, usually for want of memory).{tail}"
            )
        if "error" in answer:
            raise PlatformError(f"{self._runtime} cannot run {model.name}: {answer['error']}{tail}")
        return answer

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request; a server that died while idle is replaced once."""
        for attempt in (1, 2):
            self._start()
            try:
                self._process.write(json.dumps(request).encode() + b"\n")
                return self._answer(2 * self._limit_s + _GRACE_S)
            except (BrokenPipeError, EOFError) as error:
                tail = self._process.tail()
                self.close()
                if attempt == 2:
                    raise SessionLost(f"the {self._runtime} session server died.\n{tail}") from error
                _log.info("the %s session server died and is started again", self._runtime)
        raise AssertionError("unreachable")

    def _start(self) -> None:
        """Start the server if there is none that belongs to this process."""
        if self._process.alive:
            return
        self._process.start()
        try:
            self._answer(_START_LIMIT_S)  # its greeting
        except EOFError as error:
            tail = self._process.tail()
            self.close()
            raise PlatformError(f"the {self._runtime} session server does not start.\n{tail}") from error

    def _answer(self, limit_s: float) -> dict[str, Any]:
        """Read one line from the server."""
        deadline = time.monotonic() + limit_s
        buffer = bytearray()
        try:
            while not buffer.endswith(b"\n"):
                buffer += self._process.read(1 << 16, deadline)
        except TimeoutError:
            self._process.kill()
            raise MeasurementUnusable(
                f"the {self._runtime} session server gave no answer within {limit_s:g} s."
            ) from None
        answer: dict[str, Any] = json.loads(buffer)
        return answer

    def close(self) -> None:
        """End the server; idempotent."""
        self._process.close()
