from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from netadapt.adaptation.metering import Metering
from netadapt.errors import MeasurementUnusable
from netadapt.network import trace
from netadapt.platforms import Artifact, Measurement, Reading, StopwatchProtocol
from netadapt.platforms.assembled import AssembledPlatform
from netadapt.platforms.devices.local import Local
from netadapt.platforms.runtimes.onnxruntime import OnnxRuntime
from netadapt.platforms.simulated import SimulatedPlatform
from netadapt.resources.meter import Meter


class Recorded:
    """An estimator that remembers what it was taught."""

    def __init__(self) -> None:
        self.taught: list[tuple[np.ndarray, np.ndarray]] = []

    def fit(self, widths: np.ndarray, values: np.ndarray) -> None:
        self.taught.append((widths, values))

    def estimate(self, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.ones(len(widths)), np.zeros(len(widths))


class Untimed(AssembledPlatform):
    """Real files of onnxruntime, whose timings play no part here."""

    def session(self, artifact: Artifact, *, seconds: float, warmups: int) -> Reading:
        return Reading((1.0, 1.0, 1.0), memory_mb=1.0)


@pytest.fixture
def metering(tmp_path: Path) -> Metering:
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 48, 3), nn.Flatten(), nn.Linear(48 * 16, 5))
    network = trace(model.eval(), torch.zeros(1, 3, 8, 8))
    return Metering(network, Meter(network, SimulatedPlatform(noise=0.01), tmp_path), StopwatchProtocol(sessions=5))


def test_the_original_is_measured_and_counted(metering: Metering) -> None:
    measurement, resources = metering.initial()
    assert set(resources) == {"latency", "energy", "memory", "macs", "parameters", "size"}
    assert resources["latency"] == measurement.median_ms
    assert resources["parameters"] == metering.network.parameters()
    assert resources["macs"] == metering.network.macs()
    assert resources["size"] == pytest.approx(4e-6 * resources["parameters"])
    assert 0 < metering.noise["latency"] < 0.05 and 0 < metering.noise["energy"] < 0.05
    assert metering.noise["memory"] == 0  # the simulated device knows it exactly, whatever its latency does


def test_the_size_is_that_of_the_file_where_users_deploy_it(metering: Metering, tmp_path: Path) -> None:
    network = metering.network
    with closing(Untimed(OnnxRuntime(), Local())) as platform:
        real = Metering(network, Meter(network, platform, tmp_path), StopwatchProtocol(sessions=3, seconds=0.01))
        _, initial = real.initial()
        whole = platform.compile(network.model, network.example_inputs, tmp_path).path.stat().st_size / 1e6
        assert initial["size"] == pytest.approx(whole, rel=0.01)
        assert initial["size"] > 4e-6 * network.parameters()
        smaller = network.shrink({"0": range(16)})
        _, resources = real.measure(smaller, {"0": 16, "2": 48})
        file = platform.compile(smaller, network.example_inputs, tmp_path).path
        assert resources["size"] == file.stat().st_size / 1e6
        assert real.counted({"0": 16, "2": 48})["size"] == pytest.approx(resources["size"], rel=0.02)
        resumed = Metering(network, Meter(network, platform, tmp_path), StopwatchProtocol())
        resumed.know_size(initial["size"])
        resumed.use({"size": Recorded()})
        assert resumed.counted({"0": 16, "2": 48}) == real.counted({"0": 16, "2": 48})


def test_a_measured_network_teaches_the_estimators(metering: Metering) -> None:
    _, initial = metering.initial()
    estimator = Recorded()
    metering.use({"latency": estimator})
    kept = {"0": range(16), "2": range(24)}
    widths = {"0": 16, "2": 24}
    _, resources = metering.measure(metering.network.shrink(kept), widths)
    truth = metering.meter.platform.predict(metering.network, widths).latency_ms  # type: ignore[attr-defined]
    assert resources["latency"] == pytest.approx(truth, rel=0.05)
    assert resources["latency"] < initial["latency"]
    taught_widths, taught_values = estimator.taught[-1]
    assert [16, 24] in taught_widths.tolist()
    assert resources["latency"] in taught_values


def test_widths_are_measured_without_weights(metering: Metering) -> None:
    metering.initial()
    small, large = metering.measure_widths(np.array([[8, 8], [32, 48]]))
    assert all(small[name] < large[name] for name in ("latency", "macs", "parameters"))


def test_what_is_measured_in_passing_is_not_learned_from(metering: Metering) -> None:
    """A run that resumes does not measure it again, and must come to the same estimates."""
    metering.initial()
    before = len(metering.meter.data("latency")[0])
    (measured,) = metering.measure_widths(np.array([[16, 24]]))
    assert measured["latency"] > 0
    assert measured["parameters"] == metering.network.parameters({"0": 16, "2": 24})
    assert len(metering.meter.data("latency")[0]) == before


def test_what_has_no_interval_is_taken_to_be_as_noisy_as_latency(metering: Metering) -> None:
    measurement, _ = metering.initial()
    metering.know_noise(replace(measurement, energy_half_width_mj=None))
    assert metering.noise["energy"] == metering.noise["latency"] != metering.noise["memory"]


def test_longer_measurements_are_less_noisy_by_the_root_as_far_as_they_may(metering: Metering) -> None:
    metering.noise = {"latency": 0.04, "memory": 0.0}
    metering.measure_longer(0.9)
    assert (metering.protocol.sessions, metering.noise) == (5, {"latency": 0.04, "memory": 0.0})
    metering.measure_longer(2.0)
    assert (metering.protocol.sessions, metering.noise) == (20, {"latency": 0.02, "memory": 0.0})
    metering.measure_longer(100.0)
    assert metering.protocol.sessions == 30
    assert metering.noise["latency"] == pytest.approx(0.04 * np.sqrt(5 / 30))
    metering.measure_longer(100.0)
    assert metering.protocol.sessions == 30


@pytest.mark.parametrize("bursts", [1, 2, 3])
def test_a_burst_of_noise_is_waited_for(metering: Metering, monkeypatch: pytest.MonkeyPatch, bursts: int) -> None:
    metering.initial()
    measure, seen, pauses = metering.meter.measure_modules, [], []

    def noisy(*arguments: Any) -> list[Measurement]:
        seen.append(1)
        return [replace(m, verdict="unusable" if len(seen) <= bursts else "stable") for m in measure(*arguments)]

    monkeypatch.setattr(metering.meter, "measure_modules", noisy)
    monkeypatch.setattr("netadapt.resources.patience.time.sleep", pauses.append)
    module = metering.network.shrink({"0": range(16)})
    if bursts < 3:
        metering.measure(module, {"0": 16, "2": 48})
    else:
        with pytest.raises(MeasurementUnusable):
            metering.measure(module, {"0": 16, "2": 48})
    assert pauses == [5.0, 30.0][:bursts]
