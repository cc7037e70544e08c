from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from netadapt.errors import MeasurementUnusable, PlatformError
from netadapt.platforms.simulated import SimulatedPlatform
from netadapt.resources import patience
from netadapt.resources.designs import design
from netadapt.resources.rounds import RoundsProtocol, _order, measure_rounds


@pytest.fixture
def compiled(mobile, tmp_path):
    platform = SimulatedPlatform()
    widths = [mobile.mapping(row) for row in design(mobile, 20, 0)]
    artifacts = [platform.compile_widths(mobile, row, tmp_path) for row in widths]
    original = platform.compile_widths(mobile, {}, tmp_path)
    truth = np.array([platform.predict(mobile, row).latency_ms for row in widths])
    return artifacts, original, truth / platform.predict(mobile).latency_ms


def test_noiseless_ratios_are_exact(compiled):
    artifacts, original, truth = compiled
    rounds = measure_rounds(SimulatedPlatform(), artifacts, [original], RoundsProtocol(), 0)
    assert rounds.ratios()["latency"] == pytest.approx(truth)
    assert set(rounds.ratios()) == {"latency", "energy", "memory"}
    assert rounds.networks["latency"].shape == (3, 20) and rounds.sentinels["latency"].shape == (3, 4)


def test_drift_is_divided_out(compiled):
    artifacts, original, truth = compiled
    rounds = measure_rounds(SimulatedPlatform(drift=0.002), artifacts, [original], RoundsProtocol(), 0)
    raw = rounds.networks["latency"]
    assert raw[2].mean() > 1.05 * raw[0].mean()
    assert rounds.ratios()["latency"] == pytest.approx(truth, rel=0.03)


def test_disturbed_sessions_do_not_matter(compiled):
    artifacts, original, truth = compiled
    platform = SimulatedPlatform(bursts=0.08, burst_factor=1.4, seed=3)
    ratios = measure_rounds(platform, artifacts, [original], RoundsProtocol(rounds=5), 0).ratios()["latency"]
    assert np.median(np.abs(ratios / truth - 1)) < 1e-6 and np.abs(ratios / truth - 1).max() < 0.45


def test_a_noisy_hour_takes_more_rounds_until_enough_is_known(compiled):
    artifacts, original, truth = compiled
    noisy = RoundsProtocol(most=30, half_width=0.02)
    rounds = measure_rounds(SimulatedPlatform(noise=0.03), artifacts, [original], noisy, 0)
    taken = len(rounds.networks["latency"])
    assert 6 <= taken < 30
    few = np.abs(rounds.ratios(slice(0, 3))["latency"] / truth - 1)
    assert np.mean(np.abs(rounds.ratios()["latency"] / truth - 1)) < 0.8 * np.mean(few)
    assert len(rounds.networks["energy"]) == len(rounds.sentinels["latency"]) == taken


def test_there_is_an_end_to_more_rounds(compiled):
    artifacts, original, _ = compiled
    protocol = RoundsProtocol(most=5, half_width=1e-4)
    rounds = measure_rounds(SimulatedPlatform(noise=0.03), artifacts, [original], protocol, 0)
    assert rounds.networks["latency"].shape == (5, 20)
    fixed = RoundsProtocol(rounds=4, most=1)
    rounds = measure_rounds(SimulatedPlatform(noise=0.03), artifacts, [original], fixed, 0)
    assert rounds.networks["latency"].shape == (4, 20)


def test_a_failed_session_is_repeated(compiled, caplog):
    artifacts, original, truth = compiled
    rounds = measure_rounds(SimulatedPlatform(failures=10), artifacts, [original], RoundsProtocol(), 0)
    assert rounds.ratios()["latency"] == pytest.approx(truth)
    assert "failed and is repeated" in caplog.text
    with pytest.raises(PlatformError, match="simulated failure"):
        measure_rounds(SimulatedPlatform(failures=1), artifacts, [original], RoundsProtocol(), 0)


def test_a_hopelessly_noisy_platform_is_refused(compiled, monkeypatch):
    artifacts, original, _ = compiled
    monkeypatch.setattr(patience, "PAUSES_S", (0.01, 0.02))
    with pytest.raises(MeasurementUnusable, match="Stop other work on the device"):
        measure_rounds(SimulatedPlatform(noise=0.6), artifacts, [original], RoundsProtocol(), 0)


class _Shared(SimulatedPlatform):
    """Has no core for a part of the time."""

    def session(self, artifact, *, seconds, warmups):
        return replace(super().session(artifact, seconds=seconds, warmups=warmups), waited=0.3)


def test_a_core_that_others_use_is_told(compiled, caplog):
    artifacts, original, _ = compiled
    assert measure_rounds(_Shared(), artifacts, [original], RoundsProtocol(), 0).waited == pytest.approx(0.3)
    assert "others had the core for 30 % of the time that 20 networks were measured" in caplog.text
    assert measure_rounds(SimulatedPlatform(), artifacts, [original], RoundsProtocol(), 0).waited is None


class _Silent(SimulatedPlatform):
    """Says that it measures energy, and does not."""

    def session(self, artifact, *, seconds, warmups):
        return replace(super().session(artifact, seconds=seconds, warmups=warmups), energy_mj=None)


def test_a_resource_that_is_promised_but_not_given_is_told(compiled):
    artifacts, original, _ = compiled
    with pytest.raises(PlatformError, match="says that it measures energy but a session gave None"):
        measure_rounds(_Silent(), artifacts, [original], RoundsProtocol(), 0)


def test_every_round_visits_all_networks_and_spreads_the_sentinel():
    order = _order(np.random.default_rng(0), 20, 6, 4)
    assert sorted(order) == list(range(24))
    places = [place for place, index in enumerate(order) if index >= 20]
    assert places == [0, 7, 14, 21]
