"""From a sensor to joules per inference: samples while a session runs, integrates over its timed part, subtracts idle.

`devices/local.py` wraps one around its sessions, and `on_device/measure_once.py` on a device that ssh reaches. Idle
power is measured anew before each session, while nothing of ours runs: it changes with temperature and with what others
do, and a session of a second deserves a fresh one.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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
        self._samples: list[tuple[float, float]] = []  # moments and joules
        self._watts = 0.0  # of the last sample, where the sensor gives watts

    def session(self, run: Callable[[float], dict[str, Any]], seconds: float) -> dict[str, Any]:
        """Run a session and add ``energy_mj``, that of one inference; one that seems to cost nothing is repeated once.

        Args:
            run: given the seconds to time, which are enough for the sensor; records while the session runs and
                returns its ``window_s`` and ``inferences``, or, where it failed, something without them.
            seconds: to time at least.

        Raises:
            MeasurementUnusable: the session needed no more power than the idle machine.
        """
        for _ in range(2):
            idle_watts = self.idle_watts()
            answer = run(max(seconds, self.sensor.shortest_s))
            if "window_s" not in answer:
                return answer
            began, ended = answer["window_s"]
            energy_mj = self.millijoules_per_inference(idle_watts, began, ended, answer["inferences"])
            if energy_mj > 0:
                return answer | {"energy_mj": energy_mj}
        raise MeasurementUnusable(
            f"energy={self.sensor.name}: a session needed no more power than the idle machine ({idle_watts:.3g} W). "
            f"Does this sensor ({', '.join(self.sensor.channels)}) see what runs the network? "
            f"Otherwise stop other work on the machine and repeat."
        )

    @property
    def interval_s(self) -> float:
        """Return the seconds between two samples: as often as the sensor has something new, within reason."""
        return max(_SHORTEST_POLL_S, self.sensor.interval_s)

    def begin(self) -> None:
        """Forget what was recorded and take the first sample."""
        self._samples, self._watts = [], 0.0
        self.sample()

    def sample(self) -> None:
        """Read the sensor.

        Raises:
            SessionLost: it cannot be read now.
        """
        moment, value = time.monotonic(), self.sensor.read()
        if not self.sensor.is_counter:  # watts: add up trapezia
            before, joules = self._samples[-1] if self._samples else (moment, 0.0)
            self._watts, value = value, joules + (moment - before) * (self._watts + value) / 2
        self._samples.append((moment, value))

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
        self.begin()
        done, failed = threading.Event(), list[Exception]()

        def sample() -> None:
            while not done.wait(self.interval_s):
                try:
                    self.sample()
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
        self.sample()

    def joules(self, began: float, ended: float) -> float:
        """Return the energy between two moments of the last recording.

        Args:
            began: on the monotonic clock, which all processes of this machine share.
            ended: likewise.

        Raises:
            MeasurementUnusable: the moments were not recorded.
        """
        if not self._samples[0][0] <= began < ended <= self._samples[-1][0]:
            raise MeasurementUnusable(f"energy={self.sensor.name}: the session lies outside of what was recorded.")
        return self._joules_at(ended) - self._joules_at(began)

    def _joules_at(self, moment: float) -> float:
        """Return the energy from the first sample, or whatever a counter counts from, to a moment."""
        last = len(self._samples) - 1
        following = min(bisect_right(self._samples, (moment, float("inf"))), last)
        (before, joules), (after, more) = self._samples[following - 1], self._samples[following]
        return joules + (more - joules) * (moment - before) / max(after - before, 1e-9)

    def millijoules_per_inference(self, idle_watts: float, began: float, ended: float, inferences: int) -> float:
        """Return the energy of one inference above idle; it may come out negative where others use the machine.

        Args:
            idle_watts: from `idle_watts`.
            began: beginning of the timed part, monotonic seconds.
            ended: its end.
            inferences: in it.
        """
        return 1e3 * (self.joules(began, ended) - idle_watts * (ended - began)) / inferences
