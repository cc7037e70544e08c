from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from netadapt.errors import MeasurementUnusable, PlatformError
from netadapt.platforms import StopwatchProtocol
from netadapt.platforms.simulated import SimulatedPlatform
from netadapt.resources import patience
from netadapt.resources.designs import design
from netadapt.resources.meter import Meter
from netadapt.resources.rounds import RoundsProtocol


class _Counting(SimulatedPlatform):
    """Counts sessions; stops working after a number of them."""

    def __init__(self, *, limit: int = 10**9, **simulation) -> None:
        super().__init__(**simulation)
        self.count, self.limit = 0, limit

    def session(self, artifact, *, seconds, warmups):
        self.count += 1
        if self.count > self.limit:
            raise PlatformError("gone")
        return super().session(artifact, seconds=seconds, warmups=warmups)


def _truth(network, widths):
    return np.array([SimulatedPlatform().predict(network, network.mapping(row)).latency_ms for row in widths])


def test_values_are_on_the_scale_of_the_original(mobile, tmp_path):
    widths, meter = design(mobile, 12, 0), Meter(mobile, SimulatedPlatform(), tmp_path)
    assert meter.initial["latency"] == pytest.approx(SimulatedPlatform().predict(mobile).latency_ms)
    assert meter.measure_widths(widths)["latency"] == pytest.approx(_truth(mobile, widths))
    resumed = Meter(mobile, SimulatedPlatform(), tmp_path, initial={"latency": 1.0, "energy": 1.0, "memory": 1.0})
    ratios = _truth(mobile, widths) / SimulatedPlatform().predict(mobile).latency_ms
    assert resumed.measure_widths(widths)["latency"] == pytest.approx(ratios)


def test_what_is_on_disk_is_not_measured_again(mobile, tmp_path):
    widths = design(mobile, 12, 0)
    first = Meter(mobile, _Counting(noise=0.02), tmp_path, initial={"latency": 1, "energy": 1, "memory": 1})
    values = first.measure_widths(widths[:8])
    platform = _Counting(noise=0.02)
    initial = {"latency": 1, "energy": 1, "memory": 1}
    second = Meter(mobile, platform, tmp_path, initial=initial, protocol=RoundsProtocol(most=3))
    assert np.array_equal(second.measure_widths(widths[:8])["latency"], values["latency"])
    assert platform.count == 0 and second.build_seconds == pytest.approx(first.build_seconds)
    both = second.measure_widths(widths)
    assert np.array_equal(both["energy"][:8], values["energy"])
    assert platform.count == 3 * (4 + 1)


def test_a_stopped_measurement_keeps_its_finished_chunks(mobile, tmp_path):
    widths, initial = design(mobile, 12, 0), {"latency": 1.0, "energy": 1.0, "memory": 1.0}
    per_chunk = 3 * (4 + 1)
    with pytest.raises(PlatformError, match="gone"):
        Meter(mobile, _Counting(limit=2 * per_chunk + 4), tmp_path, initial=initial, chunk=4).measure_widths(widths)
    platform, seen = _Counting(), []
    Meter(mobile, platform, tmp_path, initial=initial, chunk=4).measure_widths(widths, lambda *done: seen.append(done))
    assert platform.count == per_chunk
    assert seen == [(8, 12), (12, 12)]


def test_repeated_widths_are_measured_once(mobile, tmp_path):
    platform = _Counting()
    initial = {"latency": 1, "energy": 1, "memory": 1}
    meter = Meter(mobile, platform, tmp_path, protocol=RoundsProtocol(rounds=1, most=1), initial=initial)
    values = meter.measure_widths(np.repeat(design(mobile, 1, 0), 3, axis=0))["latency"]
    assert np.ptp(values) == 0 and platform.count == 2


def test_modules_are_measured_end_to_end_and_added(tiny, tmp_path):
    meter = Meter(tiny, SimulatedPlatform(), tmp_path)
    widths = {name: width // 2 for name, width in tiny.widths.items()}
    module = tiny.shrink({name: range(width) for name, width in widths.items()})
    (measurement,) = meter.measure_modules([module], StopwatchProtocol(sessions=3))
    truth = SimulatedPlatform().predict(tiny, widths)
    assert measurement.median_ms == pytest.approx(truth.latency_ms)
    assert meter.values_of(measurement)["latency"] == pytest.approx(truth.latency_ms)
    assert measurement.ratio == pytest.approx(truth.latency_ms / meter.initial["latency"])
    meter.add(widths, measurement)
    rows, values = meter.data("energy")
    assert rows.tolist() == [list(tiny.widths.values()), list(widths.values())]
    assert values == pytest.approx([meter.initial["energy"], truth.energy_mj])


def test_values_follow_the_ratio_when_the_machine_has_slowed_down(tiny, tmp_path):
    meter = Meter(tiny, SimulatedPlatform(drift=0.01), tmp_path)
    before = meter.initial["latency"]
    (measurement,) = meter.measure_modules([tiny.model])
    assert measurement.median_ms > 1.05 * before
    assert meter.values_of(measurement)["latency"] == pytest.approx(before, rel=0.03)


def test_an_added_step_is_stored_once_but_used_only_by_who_added_it(tiny, tmp_path):
    meter = Meter(tiny, SimulatedPlatform(), tmp_path)
    widths = {name: width // 2 for name, width in tiny.widths.items()}
    (measurement,) = meter.measure_modules([tiny.shrink({n: range(w) for n, w in widths.items()})])
    for _ in range(2):
        meter.add(list(widths.values()), measurement)
    other = Meter(tiny, SimulatedPlatform(), tmp_path)
    assert len(other._records("step")) == 1
    assert len(meter.data("latency")[0]) == 2 and len(other.data("latency")[0]) == 1


def test_an_unusable_reference_is_refused(tiny, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(patience, "PAUSES_S", (0.01, 0.02))
    with pytest.raises(MeasurementUnusable, match="differ too much"):
        _ = Meter(tiny, SimulatedPlatform(noise=0.7), tmp_path).initial
    assert caplog.text.count("is unusable and is repeated") == 2


def test_a_doubtful_reference_is_measured_once_more_for_longer(tiny, tmp_path):
    quiet, doubtful = (Meter(tiny, SimulatedPlatform(noise=noise), tmp_path).reference for noise in (0.005, 0.05))
    assert (len(quiet.sessions_ms), len(doubtful.sessions_ms)) == (11, 33)


def test_platforms_do_not_share_samples(mobile, tmp_path):
    Meter(mobile, SimulatedPlatform(), tmp_path).measure_widths(design(mobile, 2, 0))
    platform = _Counting(staircase=8)
    Meter(mobile, platform, tmp_path, initial={"latency": 1, "energy": 1, "memory": 1}).measure_widths(
        design(mobile, 2, 0)
    )
    assert platform.count > 0


class _Selective(SimulatedPlatform):
    """Refuses networks of less than a share of the original's units, and shakes those of less than another."""

    def __init__(self, *, refused: float = 0.0, shaken: float = 0.0) -> None:
        super().__init__()
        self.refused, self.shaken, self._shaky, self._turn = refused, shaken, set(), 0

    def compile_widths(self, network, widths, folder):
        share = sum(network.mapping(network.vector(widths)).values()) / sum(network.widths.values())
        if share < self.refused:
            raise PlatformError("too narrow for this device")
        artifact = super().compile_widths(network, widths, folder)
        if share < self.shaken:
            self._shaky.add(artifact.sha256)
        return artifact

    def session(self, artifact, *, seconds, warmups):
        found = super().session(artifact, seconds=seconds, warmups=warmups)
        self._turn += 1
        factor = 1 + self._turn % 3 if artifact.sha256 in self._shaky else 1
        return replace(found, latency_ms=tuple(factor * ms for ms in found.latency_ms))


@pytest.mark.parametrize(
    ("device", "known"),
    [({}, 3), ({"refused": 0.4}, 2), ({"refused": 0.9}, 1), ({"shaken": 0.4}, 2), ({"shaken": 0.9}, 1)],
)
def test_what_cannot_be_measured_well_is_no_yardstick(mobile, tmp_path, device, known):
    meter = Meter(mobile, _Selective(**device), tmp_path)
    assert len(meter.yardsticks_ms) == known
    (measurement,) = meter.measure_modules([mobile.model])
    assert len(measurement.yardsticks_ms) == known
    assert meter.values_of(measurement)["latency"] == pytest.approx(meter.initial["latency"])


def test_samples_taken_beside_fewer_yardsticks_are_taken_again(mobile, tmp_path):
    widths = design(mobile, 4, 0)
    initial = Meter(mobile, SimulatedPlatform(), tmp_path).initial
    Meter(mobile, SimulatedPlatform(), tmp_path, initial=initial).measure_widths(widths)
    platform = _Counting()
    meter = Meter(mobile, platform, tmp_path)
    _ = meter.initial
    before = platform.count
    meter.measure_widths(widths)
    assert platform.count == before + 3 * (4 + 3)
    meter.measure_widths(widths)
    assert platform.count == before + 3 * (4 + 3)
