"""The processor of the machine that netadapt runs on, with threads and cores fixed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from netadapt.errors import PlatformError
from netadapt.platforms.base import Artifact, OperationTime, Reading
from netadapt.platforms.devices.session_client import SessionClient, reading_of
from netadapt.platforms.energy import EnergyMeter, open_sensor
from netadapt.platforms.environment import available_cores, package_version, processor, snapshot
from netadapt.platforms.parts import Runtime


class Local:
    """Times files in fresh processes on this machine; measures latency and memory, and energy where asked for.

    With a sensor of energy every session lasts at least twenty renewals of the sensor's value (half a second or more),
    and as long is waited before each, to measure the idle power that is subtracted.

    Args:
        address: what stands between ``local`` and the runtime; nothing may.
        threads: of one inference; the session is bound to the last so many cores that this process may use.
        limit_s: seconds after which a session is given up.
        energy: which sensor: ``none``, ``auto`` (none if there is none), ``rapl``, ``hwmon[:CHIP]`` (its name
            or folder), ``nvml[:INDEX]``.

    Raises:
        PlatformError: this machine has too few cores, cannot fork, or lacks the sensor asked for.
    """

    exclusive = True

    def __init__(
        self,
        address: str = "",
        *,
        threads: int = 1,
        limit_s: float = 300.0,
        energy: str = "none",
    ) -> None:
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
        sensor = open_sensor(energy)
        self._meter = None if sensor is None else EnergyMeter(sensor)
        self.resources: tuple[str, ...] = ("latency", "memory") if sensor is None else ("latency", "memory", "energy")
        self.options: Mapping[str, str | int] = {} if sensor is None else {"energy": sensor.name}

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
            PlatformError: the runtime cannot run the file.
            SessionLost: the process died.
            MeasurementUnusable: the session took longer than the limit, or needed no more power than an idle machine.
        """
        client = self._started(runtime)
        if self._meter is None:
            return client.run(artifact.path, seconds=seconds, warmups=warmups)
        meter = self._meter

        def run(seconds: float) -> dict[str, Any]:
            with meter.recording():
                return client.answer(artifact.path, seconds=seconds, warmups=warmups)

        return reading_of(meter.session(run, seconds))

    def profile(self, runtime: Runtime, artifact: Artifact, *, seconds: float) -> tuple[OperationTime, ...] | None:
        """Return what each operation takes, from the runtime's profiler in a fresh process; ``None`` without one.

        Raises:
            PlatformError: the runtime cannot run the file.
            SessionLost: the process died.
            MeasurementUnusable: the session took longer than the limit.
        """
        return self._started(runtime).profile(artifact.path, seconds=seconds)

    def _started(self, runtime: Runtime) -> SessionClient:
        if self._client is None:
            self._client = SessionClient(
                runtime.name, runtime.options, threads=self.threads, cores=self._cores, limit_s=self._limit_s
            )
        return self._client

    def environment(self, runtime: Runtime) -> Mapping[str, Any]:
        """Return a snapshot of this machine's state."""
        seen = snapshot((*runtime.distributions, "numpy", "torch"))
        if self._meter is not None:
            seen["energy"] = {"sensor": self._meter.sensor.name, "channels": list(self._meter.sensor.channels)}
        return seen

    def close(self) -> None:
        """End the session server and let go of the sensor; idempotent."""
        if self._client is not None:
            self._client.close()
        if self._meter is not None:
            self._meter.sensor.close()
