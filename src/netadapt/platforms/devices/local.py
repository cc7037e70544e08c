"""The processor of the machine that netadapt runs on, with threads and cores fixed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from netadapt.errors import PlatformError
from netadapt.platforms.base import Artifact, Reading
from netadapt.platforms.devices.session_client import SessionClient
from netadapt.platforms.environment import available_cores, package_version, processor, snapshot
from netadapt.platforms.parts import Runtime


class Local:
    """Times files in fresh processes on this machine; measures latency and memory.

    Args:
        address: what stands between ``local`` and the runtime; nothing may.
        threads: of one inference; the session is bound to the last so many cores that this process may use.
        limit_s: seconds after which a session is given up.

    Raises:
        PlatformError: this machine has too few cores, or cannot fork.
    """

    exclusive = True
    options: Mapping[str, str | int] = {}
    resources: tuple[str, ...] = ("latency", "memory")

    def __init__(self, address: str = "", *, threads: int = 1, limit_s: float = 300.0) -> None:
        if address:
            raise PlatformError(f"local has no address, got {address!r}; write local/RUNTIME.")
        if not hasattr(os, "fork"):
            raise PlatformError("local platforms need a system that can fork processes (Linux, macOS).")
        cores = available_cores()
        if not 1 <= threads <= len(cores):
            raise PlatformError(f"threads={threads}: allowed are 1 to {len(cores)}, the cores this process may use.")
        if not limit_s > 0:
            raise PlatformError(f"limit_s={limit_s:g}: allowed are seconds above 0.")
        self.name, self.threads = "local", threads
        self._cores, self._limit_s = cores[-threads:], limit_s
        self._client: SessionClient | None = None

    def identity(self, runtime: Runtime) -> Mapping[str, str]:
        """Return what computes on this machine (its processor, a runtime's accelerator) and the runtime's version.

        Raises:
            PlatformError: the runtime needs an accelerator that is not here.
        """
        accelerator: str | None = getattr(runtime, "accelerator", lambda: None)()
        return {"device": accelerator or processor(), "version": package_version(runtime.distributions[0])}

    def session(self, runtime: Runtime, artifact: Artifact, *, seconds: float, warmups: int) -> Reading:
        """Time ``artifact`` in a fresh process.

        Raises:
            PlatformError: the runtime cannot run the file, or the process died.
            MeasurementUnusable: the session took longer than the limit.
        """
        if self._client is None:
            self._client = SessionClient(
                runtime.name, runtime.options, threads=self.threads, cores=self._cores, limit_s=self._limit_s
            )
        return self._client.run(artifact.path, seconds=seconds, warmups=warmups)

    def environment(self, runtime: Runtime) -> Mapping[str, Any]:
        """Return a snapshot of this machine's state."""
        return snapshot((*runtime.distributions, "numpy", "torch"))

    def close(self) -> None:
        """End the session server; idempotent."""
        if self._client is not None:
            self._client.close()
