"""The simulated platform: conformance, formulas, and every fault that can be injected."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from netadapt.errors import PlatformError
from netadapt.network import trace
from netadapt.platforms.simulated import LayerRecord, SimulatedPlatform
from netadapt.platforms.stopwatch import StopwatchProtocol, measure
from netadapt.testing import PlatformSuite, SmallNetwork


class TestSimulated(PlatformSuite):
    def make_platform(self):
        return SimulatedPlatform()


class TestSimulatedWithFaults(PlatformSuite):
    def make_platform(self):
        return SimulatedPlatform(staircase=4, noise=0.02, drift=0.001, bursts=0.1, seed=3)


@pytest.fixture(scope="module")
def network():
    return trace(SmallNetwork(), torch.zeros(1, 3, 16, 16), prove=False)


@pytest.fixture
def artifact(network, tmp_path):
    return SimulatedPlatform().compile_widths(network, {}, tmp_path)


def latencies(platform, artifact, sessions):
    return np.array([np.mean(platform.session(artifact, seconds=0.05, warmups=1).latency_ms) for _ in range(sessions)])


def test_formulas_by_hand():
    areas = {"input_area": 64, "output_area": 64, "batch": 2}
    layer = LayerRecord("conv", "conv", inputs=3, outputs=10, fan_in=3, kernel_area=9, **areas)
    norm = LayerRecord("norm", "norm", inputs=10, outputs=10, fan_in=0, kernel_area=1, **areas)
    cost = SimulatedPlatform(staircase=8).cost([layer, norm])
    macs = 16 * 8 * 9 * 64 * 2
    moved, weights = 4 * 2 * (3 * 64 + 10 * 64), 4 * 10 * 3 * 9
    assert cost.latency_ms == pytest.approx(0.005 + macs / 40e6 + (moved + weights) / 10e6)
    assert cost.energy_mj == pytest.approx((4 * macs + 100 * (moved + weights)) / 1e9 + 0.5 * cost.latency_ms)
    assert cost.memory_mb == pytest.approx((moved + weights) / 1e6)


def test_without_faults_a_measurement_is_the_prediction(network, tmp_path):
    platform = SimulatedPlatform()
    widths = {group.name: 7 for group in network.groups}
    result = measure(platform, [platform.compile_widths(network, widths, tmp_path)])[0]
    truth = platform.predict(network, widths)
    assert result.median_ms == pytest.approx(truth.latency_ms)
    assert result.energy_mj == pytest.approx(truth.energy_mj)
    assert result.memory_mb == pytest.approx(truth.memory_mb)
    assert (result.verdict, result.half_width_ms) == ("stable", 0)


def test_staircase_is_flat_within_a_step(network):
    platform = SimulatedPlatform(staircase=8)
    name = network.groups[0].name
    steps = {platform.cost(_stripped(platform._layers(network, {name: width}))).latency_ms for width in range(9, 17)}
    assert len(steps) == 1
    assert platform.predict(network, {name: 8}).latency_ms < platform.predict(network, {name: 9}).latency_ms


def test_on_a_ragged_staircase_a_vector_that_is_not_full_costs_more_than_a_full_one(network):
    smooth, ragged = SimulatedPlatform(staircase=8), SimulatedPlatform(staircase=8, ragged=0.5)
    areas = {"input_area": 64, "output_area": 64, "batch": 1}
    layers = [LayerRecord("conv", "conv", inputs=64, outputs=n, fan_in=64, kernel_area=9, **areas) for n in (12, 16)]
    odd, full = (ragged.cost([layer]).latency_ms for layer in layers)
    assert full == smooth.cost([layers[1]]).latency_ms < odd
    assert odd - smooth.cost([layers[0]]).latency_ms == pytest.approx(0.5 * 16 * 64 * 9 * 64 / 40e6)
    assert ragged.fingerprint() != smooth.fingerprint()
    assert ragged.name == "simulated?staircase=8&ragged=0.5"


def _stripped(layers):
    """Only the arithmetic: traffic follows the true widths."""
    from dataclasses import replace

    return [replace(layer, input_area=0, inputs=0, outputs=-(-layer.outputs // 8) * 8, fan_in=-(-layer.fan_in // 8) * 8)
            for layer in layers if layer.kind != "depthwise"]  # fmt: skip


def test_cost_rises_with_every_width(network):
    platform = SimulatedPlatform()
    for name, full in network.widths.items():
        costs = [platform.predict(network, {name: width}) for width in range(1, full + 1)]
        for key in ("latency_ms", "energy_mj", "memory_mb"):
            assert np.all(np.diff([getattr(cost, key) for cost in costs]) >= 0)


def test_noise_has_the_size_asked_for_and_repeats(artifact):
    noisy = latencies(SimulatedPlatform(noise=0.05, seed=1), artifact, 400)
    assert np.std(np.log(noisy)) == pytest.approx(0.05, rel=0.15)
    assert np.array_equal(noisy, latencies(SimulatedPlatform(noise=0.05, seed=1), artifact, 400))
    assert not np.array_equal(noisy, latencies(SimulatedPlatform(noise=0.05, seed=2), artifact, 400))


def test_noise_does_not_depend_on_the_order(network, artifact, tmp_path):
    other = SimulatedPlatform().compile_widths(network, {network.groups[0].name: 3}, tmp_path)
    first, second = SimulatedPlatform(noise=0.1), SimulatedPlatform(noise=0.1)
    a = (latencies(first, artifact, 2), latencies(first, other, 2))
    b = (latencies(second, other, 2), latencies(second, artifact, 2))
    assert np.array_equal(a[0], b[1])
    assert np.array_equal(a[1], b[0])


def test_drift_slows_down_session_by_session(artifact):
    values = latencies(SimulatedPlatform(drift=0.01), artifact, 10)
    assert np.allclose(np.diff(values) / values[0] * 1.01, 0.01)


def test_bursts_hit_their_share(artifact):
    values = latencies(SimulatedPlatform(bursts=0.2, burst_factor=3), artifact, 500)
    assert np.mean(values > 2 * values.min()) == pytest.approx(0.2, abs=0.06)


def test_failures_come_in_turn_and_the_stopwatch_survives_them(artifact):
    platform = SimulatedPlatform(failures=3)
    outcomes = []
    for _ in range(6):
        try:
            latencies(platform, artifact, 1)
            outcomes.append(True)
        except PlatformError:
            outcomes.append(False)
    assert outcomes == [True, True, False, True, True, False]
    assert measure(platform, [artifact], protocol=StopwatchProtocol(sessions=9))[0].count > 0
    with pytest.raises(PlatformError, match="simulated failure"):
        measure(SimulatedPlatform(failures=1), [artifact])


def test_its_name_holds_all_that_is_not_default():
    assert SimulatedPlatform().name == "simulated"
    assert SimulatedPlatform(seed=4, noise=0.5).name == "simulated?noise=0.5&seed=4"


@pytest.mark.parametrize("bad", [{"staircase": 0}, {"noise": -1}, {"noise": float("nan")}, {"failures": -1}])
def test_impossible_devices_are_refused(bad):
    with pytest.raises(PlatformError, match="allowed are"):
        SimulatedPlatform(**bad)


@pytest.mark.parametrize("change", [{"v": 2}, {"format": "other"}, {"layers": [{"name": "x"}]}, {"layers": 3}])
def test_foreign_files_are_refused(artifact, tmp_path, change):
    from netadapt.platforms.artifacts import artifact_of

    path = tmp_path / "foreign.json"
    path.write_text(json.dumps(json.loads(artifact.path.read_text()) | change))
    with pytest.raises(PlatformError, match="not a file of the simulated platform"):
        SimulatedPlatform().session(artifact_of(path), seconds=0.1, warmups=1)
