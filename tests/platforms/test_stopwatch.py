"""The stopwatch on the simulated platform: what it orders, divides out, shares and refuses."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from netadapt.errors import MeasurementUnusable, PlatformError, SessionLost
from netadapt.network import trace
from netadapt.platforms import measure as measure_model
from netadapt.platforms.base import Reading
from netadapt.platforms.simulated import SimulatedPlatform
from netadapt.platforms.stopwatch import StopwatchProtocol, measure, measure_files, summarise
from netadapt.testing import SmallNetwork


@pytest.fixture(scope="module")
def network():
    return trace(SmallNetwork(), torch.zeros(1, 3, 16, 16), prove=False)


def candidates(network, folder, widths):
    platform = SimulatedPlatform()
    name = network.groups[-1].name
    files = [platform.compile_widths(network, {name: width}, folder) for width in widths]
    return files, [platform.predict(network, {name: width}).latency_ms for width in widths]


class Spy(SimulatedPlatform):
    def __init__(self, **faults):
        super().__init__(**faults)
        self.order = []

    def session(self, artifact, *, seconds, warmups):
        self.order.append(artifact.sha256)
        return super().session(artifact, seconds=seconds, warmups=warmups)


def test_rounds_hold_every_network_once_in_changing_order(network, tmp_path):
    files, _ = candidates(network, tmp_path, range(2, 10))
    platform = Spy()
    seen = []
    measure(platform, files, sentinel=files[-1], seed=1, progress=lambda done, total: seen.append((done, total)))
    rounds = np.array(platform.order).reshape(5, 8)
    assert all(set(row) == {f.sha256 for f in files} for row in rounds)
    assert len({tuple(row) for row in rounds}) > 1
    assert seen == [(i + 1, 40) for i in range(40)]


def test_the_seed_fixes_the_order(network, tmp_path):
    files, _ = candidates(network, tmp_path, range(2, 8))
    orders = []
    for seed in (1, 1, 2):
        platform = Spy()
        measure(platform, files, seed=seed)
        orders.append(platform.order)
    assert orders[0] == orders[1] != orders[2]


def test_strong_drift_leaves_ratios_alone(network, tmp_path):
    files, truth = candidates(network, tmp_path, [4, 8, 12, 16])
    results = measure(SimulatedPlatform(drift=0.02), files[:3], sentinel=files[3])
    for result, expected in zip(results, truth, strict=False):
        assert result.ratio == pytest.approx(expected / truth[3], rel=0.12)
    plain = SimulatedPlatform(drift=0.02)
    raw = [np.mean(plain.session(files[0], seconds=0.1, warmups=1).latency_ms) for _ in range(20)]
    assert max(raw) / min(raw) > 1.3


def test_many_networks_under_noise_drift_and_bursts_are_ranked(network, tmp_path):
    files, truth = candidates(network, tmp_path, range(1, 17))
    platform = SimulatedPlatform(noise=0.01, drift=0.001, bursts=0.05, seed=5)
    results = measure(platform, files, sentinel=files[-1])
    assert results[-1].ratio is None
    ratios = np.array([result.ratio for result in results[:-1]])
    assert np.max(np.abs(ratios / (np.array(truth[:-1]) / truth[-1]) - 1)) < 0.03


def test_the_sentinel_shares_its_sessions(network, tmp_path):
    files, _ = candidates(network, tmp_path, [4, 16])
    platform = Spy(noise=0.01)
    first, original = measure(platform, files, sentinel=files[1])
    assert len(platform.order) == 10
    assert original.ratio is None and original.sentinel_ratio == 1.0
    assert first.ratio == first.sentinel_ratio == pytest.approx(first.median_ms / original.median_ms)


class Fails(Spy):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def session(self, artifact, *, seconds, warmups):
        super().session(artifact, seconds=seconds, warmups=warmups)
        raise self.error


@pytest.mark.parametrize(("error", "tries"), [(SessionLost("killed"), 2), (PlatformError("not its file"), 1)])
def test_only_a_lost_session_is_repeated(network, tmp_path, error, tries):
    files, _ = candidates(network, tmp_path, [4])
    platform = Fails(error)
    with pytest.raises(PlatformError, match=str(error)):
        measure(platform, files)
    assert len(platform.order) == tries


def test_nothing_to_measure():
    assert measure(SimulatedPlatform(), []) == []


def test_memory_and_energy_are_medians_of_what_is_known():
    rows = [[Reading((1.0,), energy_mj=e, memory_mb=None) for e in (1.0, None, 3.0)]]
    result = summarise("x", rows)[0]
    assert (result.energy_mj, result.memory_mb) == (2.0, None)
    assert (result.count, len(result.sessions_ms)) == (3, 3)


def test_every_resource_has_an_interval_of_its_own(network, tmp_path):
    files, _ = candidates(network, tmp_path, [4, 16])
    first, _ = measure(SimulatedPlatform(noise=0.02), files)
    halves = first.relative_half_widths
    assert 0.005 < halves["energy"] < 0.1 and halves["memory"] == 0
    assert halves["latency"] == first.relative_half_width
    assert first.energy_half_width_mj == pytest.approx(halves["energy"] * first.energy_mj)


@pytest.mark.parametrize("energies", [(1.0, None, 3.0), (None, None, None), (0.0, 0.0, 1.0)])
def test_of_what_is_not_known_in_every_session_or_is_not_positive_there_is_no_interval(energies):
    (found,) = summarise("x", [[Reading((1.0,), energy_mj=e) for e in energies]])
    assert set(found.relative_half_widths) == {"latency"}


def test_a_network_with_a_reading_missing_leaves_the_others_their_intervals():
    known, lacking = [[Reading((1.0,), energy_mj=e) for e in row] for row in ((1.0, 1.1, 1.2), (2.0, None, 2.2))]
    first, second = summarise("x", [known, lacking])
    assert first.relative_half_widths["energy"] > 0
    assert "energy" not in second.relative_half_widths and second.energy_mj == 2.1


def test_a_measurement_is_json(network, tmp_path):
    files, _ = candidates(network, tmp_path, [4])
    result = measure(SimulatedPlatform(noise=0.01), files)[0]
    json.dumps(asdict(result), allow_nan=False)


class Gives(SimulatedPlatform):
    def __init__(self, *latencies):
        super().__init__()
        self.latencies = latencies

    def session(self, artifact, *, seconds, warmups):
        return Reading(self.latencies)


@pytest.mark.parametrize("latencies", [(), (0.0,), (-1.0,), (float("nan"),), (1.0, float("inf"))])
def test_impossible_latencies_are_refused(network, tmp_path, latencies):
    files, _ = candidates(network, tmp_path, [4])
    with pytest.raises(MeasurementUnusable, match="not positive and finite"):
        measure(Gives(*latencies), files)


@pytest.mark.parametrize("bad", [{"sessions": 0}, {"seconds": 0.0}, {"warmups": 0}, {"seconds": float("nan")}])
def test_impossible_protocols_are_refused(bad):
    with pytest.raises(PlatformError, match="at least"):
        StopwatchProtocol(**bad)


def test_a_model_is_measured_by_platform_string():
    result = measure_model(SmallNetwork(), torch.zeros(1, 3, 16, 16), "simulated?noise=0.01")
    assert result.platform == "simulated?noise=0.01"
    assert result.median_ms > 0


def test_files_are_measured(network, tmp_path):
    files, truth = candidates(network, tmp_path, [4, 16])
    results = measure_files([f.path for f in files], "simulated")
    assert [r.median_ms for r in results] == pytest.approx(truth)
    with pytest.raises(PlatformError, match="no file"):
        measure_files([tmp_path / "missing.onnx"], "simulated")
