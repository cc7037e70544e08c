from __future__ import annotations

import numpy as np
import pytest

from netadapt.platforms.simulated import SimulatedPlatform
from netadapt.resources import Meter, build_estimators, design, verify


def test_a_good_estimator_is_as_good_as_repeating_the_measurement(mobile, device, tmp_path):
    meter = Meter(mobile, device, tmp_path)
    model = build_estimators(mobile, device, ["latency"], meter=meter)["latency"]
    before = sorted(tmp_path.iterdir())
    result = verify(mobile, device, model, 25, 1, meter=meter)
    assert result["mean_error"] < 0.012 and result["worst_error"] < 0.05 and abs(result["bias"]) < 0.01
    assert result["spearman"] > 0.99 and 0.002 < result["repeatability"] < 0.02
    assert result["networks_measured"] == 65 and result["networks_verified"] == len(result["pairs"]) == 25
    assert result["build_seconds"] == model.build_seconds
    assert set(result["pairs"][0]) == {"widths", "measured", "estimated", "sigma"}
    assert sorted(tmp_path.iterdir()) == before  # the truth never becomes the estimator's data


class _Half:
    """An estimator that always says half of the truth."""

    def __init__(self, network):
        self._network = network

    def fit(self, widths, values):
        pass

    def estimate(self, widths):
        platform = SimulatedPlatform()
        truth = np.array([platform.predict(self._network, self._network.mapping(row)).energy_mj for row in widths])
        return truth / 2, truth / 2


def test_errors_are_relative_to_what_was_measured(tiny, tmp_path):
    platform = SimulatedPlatform()
    result = verify(tiny, platform, _Half(tiny), 10, resource="energy", meter=Meter(tiny, platform, tmp_path))
    assert result["mean_error"] == pytest.approx(0.5) and result["bias"] == pytest.approx(-0.5)
    assert result["worst_error"] == pytest.approx(0.5) and result["repeatability"] == pytest.approx(0)
    assert result["z"] == pytest.approx(1) and result["spearman"] == pytest.approx(1)
    assert result["networks_measured"] is None and result["build_seconds"] is None


def test_networks_that_the_meter_has_measured_are_not_used_to_judge(tiny, tmp_path):
    platform = SimulatedPlatform()
    meter = Meter(tiny, platform, tmp_path)
    meter.measure_widths(design(tiny, 6, 7919))  # what verify would draw
    measured = {tuple(row) for row in meter.data("energy")[0].tolist()}
    pairs = verify(tiny, platform, _Half(tiny), 6, resource="energy", meter=meter)["pairs"]
    assert len(pairs) == 6 and not measured & {tuple(pair["widths"].values()) for pair in pairs}
