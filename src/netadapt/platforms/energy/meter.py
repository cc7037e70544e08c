"""From a sensor to joules per inference: samples while a session runs, integrates over its timed part, subtracts idle.

`devices/local.py` wraps one around its sessions. Idle power is measured anew before each session, while nothing of ours
runs: it changes with temperature and with what others do, and a session of a second deserves a fresh one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from netadapt.errors import MeasurementUnusable
from netadapt.platforms.energy.sensor import Sensor

_SHORTEST_POLL_S = 0.01  # more often would disturb what is timed


class EnergyMeter:
    """Measures the energy of sessions.

    Args:
        sensor: owned from now on.
    """

    def __init__(self, sensor: Sensor) -> None:
        self.sensor = sensor
        self._samples: list[tuple[float, float]] = []

    def idle_watts(self) -> float:
        """Return the power of the machine while nothing of ours runs, over the sensor's shortest time."""
        with self.recording():
            began = time.monotonic()
            time.sleep(self.sensor.shortest_s)
            ended = time.monotonic()
        return self.joules(began, ended) / (ended - began)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Sample the sensor in a thread while the block runs; an error of the sensor is raised at its end."""
        self._samples = [(time.monotonic(), self.sensor.read())]
        done, failed = threading.Event(), list[Exception]()

        def sample() -> None:
            while not done.wait(max(_SHORTEST_POLL_S, self.sensor.interval_s)):
                try:
                    self._samples.append((time.monotonic(), self.sensor.read()))
                except Exception as error:  # noqa: BLE001  raised again where the caller sees it
                    failed.append(error)
                    return

        thread = threading.Thread(target=sample, name="netadapt-energy", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        if failed:
            raise failed[0]
        self._samples.append((time.monotonic(), self.sensor.read()))

    def joules(self, began: float, ended: float) -> float:
        """Return the energy between two moments of the last recording.

        Args:
            began: on the monotonic clock, which all processes of this machine share.
            ended: likewise.

        Raises:
            MeasurementUnusable: the moments were not recorded.
        """
        moments, values = np.array(self._samples).T
        if not moments[0] <= began < ended <= moments[-1]:
            raise MeasurementUnusable(f"energy={self.sensor.name}: the session lies outside of what was recorded.")
        if not self.sensor.is_counter:  # watts: add up trapezia
            steps = np.diff(moments) * (values[1:] + values[:-1]) / 2
            values = np.concatenate([[0.0], np.cumsum(steps)])
        start, end = np.interp([began, ended], moments, values)
        return float(end - start)

    def millijoules_per_inference(self, idle_watts: float, began: float, ended: float, inferences: int) -> float:
        """Return the energy of one inference above idle; it may come out negative where others use the machine.

        Args:
            idle_watts: from `idle_watts`.
            began: beginning of the timed part, monotonic seconds.
            ended: its end.
            inferences: in it.
        """
        return 1e3 * (self.joules(began, ended) - idle_watts * (ended - began)) / inferences
