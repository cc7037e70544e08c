"""All resources of a network in one place: measured on the platform, or counted; and the estimators of both.

`tools.py` measures every step with it, `finish.py` the last networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from torch import nn

from netadapt.network import Network
from netadapt.platforms import Measurement, StopwatchProtocol
from netadapt.resources.counted import COUNTED, Counted
from netadapt.resources.estimator import Estimator, Widths
from netadapt.resources.meter import Meter, first_usable
from netadapt.resources.patience import patiently

#: so many times the sessions that were asked for, at most, where fewer would leave more noise than the steps bear
_MOST_TIMES = 6


class Metering:
    """Measures, counts, and keeps the estimators up to date.

    Args:
        network: the original.
        meter: measures on the platform.
        protocol: of each end-to-end measurement; `measure_longer` adds sessions.

    Attributes:
        estimators: by resource; the counted ones from the start, the measured ones once `use` was given them.
        noise: by measured resource, the half-width of the interval of a measurement as this run takes it, relative
            to it; a counted resource has none.
    """

    def __init__(self, network: Network, meter: Meter, protocol: StopwatchProtocol) -> None:
        self.network = network
        self.meter = meter
        self.protocol = protocol
        self._most_sessions = _MOST_TIMES * protocol.sessions
        self.estimators: dict[str, Estimator] = {name: Counted(network, name) for name in COUNTED}
        self.noise: Mapping[str, float] = {}

    def use(self, estimators: Mapping[str, Estimator]) -> None:
        """Add the estimators of the measured resources."""
        self.estimators.update({name: found for name, found in estimators.items() if name not in COUNTED})

    def know_size(self, size_mb: float) -> None:
        """Count sizes from now on so that the original network has this one.

        Args:
            size_mb: of the file that the platform makes of the original network.
        """
        self.estimators["size"] = Counted(self.network, "size")
        extra_mb = size_mb - self.counted(self.network.widths)["size"]
        self.estimators["size"] = Counted(self.network, "size", extra_mb)

    def know_noise(self, measurement: Measurement) -> None:
        """Take the noise of a measurement from one of the original network.

        One with more sessions than a step has a narrower interval than theirs, by the root of the ratio. A resource
        whose interval is not known is taken to be as noisy as latency.
        """
        more = math.sqrt(len(measurement.sessions_ms) / self.protocol.sessions)
        halves = measurement.relative_half_widths
        resources = self.meter.platform.resources
        self.noise = {name: more * halves.get(name, measurement.relative_half_width) for name in resources}

    def measure_longer(self, times: float) -> None:
        """Take more sessions per measurement, until its noise has fallen to one part in ``times`` or as far as it may.

        Args:
            times: at most 1 changes nothing.
        """
        before = self.protocol.sessions
        sessions = min(math.ceil(before * max(times, 1.0) ** 2), self._most_sessions)
        self.protocol = replace(self.protocol, sessions=sessions)
        self.noise = {name: noise * math.sqrt(before / sessions) for name, noise in self.noise.items()}

    def resume(self, noise: Mapping[str, float], sessions: int, size_mb: float) -> None:
        """Go on as a run had begun.

        Args:
            noise: by measured resource, of a measurement with so many sessions.
            sessions: per measurement.
            size_mb: of the file of the original network.
        """
        self.noise, self.protocol = dict(noise), replace(self.protocol, sessions=sessions)
        self.know_size(size_mb)

    def initial(self) -> tuple[Measurement, dict[str, float]]:
        """Measure the original network; sets `noise`."""
        measurement = self.meter.reference
        self.know_noise(measurement)
        if measurement.size_mb is not None:
            self.know_size(measurement.size_mb)
        return measurement, {**self.meter.initial, **self.counted(self.network.widths)}

    def measure(self, module: nn.Module, widths: Mapping[str, int]) -> tuple[Measurement, dict[str, float]]:
        """Measure a network end to end with its own weights, and teach the estimators what was seen.

        Args:
            module: the network.
            widths: that it has.

        Returns:
            The measurement, and all resources in canonical units on the scale of the original's first measurement.

        Raises:
            MeasurementUnusable: the platform is too noisy, three times running.
        """
        (measurement,) = patiently(
            lambda _: self.meter.measure_modules([module], self.protocol), first_usable, self.meter.platform.name
        )
        self.learn(widths, measurement)
        size = {} if measurement.size_mb is None else {"size": measurement.size_mb}
        return measurement, {**self.meter.values_of(measurement), **self.counted(widths), **size}

    def learn(self, widths: Mapping[str, int], measurement: Measurement) -> None:
        """Teach the estimators of the measured resources what a network of ``widths`` was measured at."""
        self.meter.add(widths, measurement)
        for name in self.meter.platform.resources:
            if name in self.estimators:
                self.estimators[name].fit(*self.meter.data(name))

    def measure_widths(self, vectors: Widths) -> list[dict[str, float]]:
        """Return all resources of networks given by widths ``(m, groups)``, weights aside.

        Estimators do not learn from them: a run that resumes asks for other ones, and must estimate the same.
        """
        measured = self.meter.measure_widths(vectors, learn=False)
        rows = [{name: float(values[row]) for name, values in measured.items()} for row in range(len(vectors))]
        return [row | self.counted(self.network.mapping(vector)) for row, vector in zip(rows, vectors, strict=True)]

    def counted(self, widths: Mapping[str, int]) -> dict[str, float]:
        """Return the resources that need no measurement."""
        vector = np.array([self.network.vector(widths)])
        return {name: float(self.estimators[name].estimate(vector)[0][0]) for name in COUNTED}
