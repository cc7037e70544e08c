from __future__ import annotations

import numpy as np
import pytest

from netadapt.errors import PlatformError, UsageError
from netadapt.platforms.simulated import SimulatedPlatform, evaluated
from netadapt.resources.designs import design
from netadapt.resources.layer_table import UNCALIBRATED, LayerTable


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cells")


@pytest.fixture(scope="module")
def tables(tiny, cache):
    return LayerTable.measure(tiny, SimulatedPlatform(), ("latency", "energy"), cache=cache, grid=3)


def _truth(network, widths, field="latency_ms"):
    return np.array([getattr(SimulatedPlatform().predict(network, network.mapping(row)), field) for row in widths])


def test_the_sum_of_layers_is_the_network_on_an_additive_device(tiny, tables):
    widths = np.array([[16, 32, 24], [8, 16, 8], [8, 32, 24]])
    for name, field in (("latency", "latency_ms"), ("energy", "energy_mj")):
        values, sigma = tables[name].estimate(widths)
        assert values == pytest.approx(_truth(tiny, widths, field), rel=0.02)
        assert sigma == pytest.approx(UNCALIBRATED * values)


def test_calibration_takes_out_factor_and_offset(tiny, cache):
    table = LayerTable.measure(tiny, SimulatedPlatform(), cache=cache, grid=3)["latency"]
    seen, unseen = design(tiny, 12, 0), design(tiny, 12, 1)
    table.fit(seen, 0.87 * table.estimate(seen)[0] + 0.05)
    expected = 0.87 * tables_sum(tiny, cache, unseen) + 0.05
    values, sigma = table.estimate(unseen)
    assert values == pytest.approx(expected) and np.all(sigma < 0.001 * values)
    assert table.networks_measured == 12
    with pytest.raises(UsageError, match="must be positive"):
        table.fit(seen[:0], np.zeros(0))


def tables_sum(network, cache, widths):
    return LayerTable.measure(network, SimulatedPlatform(), cache=cache, grid=3)["latency"].estimate(widths)[0]


def test_one_network_calibrates_the_factor_alone(tiny, cache):
    table = LayerTable.measure(tiny, SimulatedPlatform(), cache=cache, grid=3)["latency"]
    widths = design(tiny, 5, 0)
    before = table.estimate(widths)[0]
    table.fit(widths[:1], 2 * before[:1])
    assert table.estimate(widths)[0] == pytest.approx(2 * before)


def test_cells_on_disk_are_not_measured_again(tiny, cache, tables):
    class Dead(SimulatedPlatform):
        def session(self, artifact, *, seconds, warmups):
            raise PlatformError("gone")

    seen = []
    again = LayerTable.measure(tiny, Dead(), cache=cache, grid=3, progress=lambda *done: seen.append(done))["latency"]
    widths = design(tiny, 5, 3)
    assert np.array_equal(again.estimate(widths)[0], tables["latency"].estimate(widths)[0])
    assert len(seen) == 1 and seen[0][0] == seen[0][1] > 5


def test_memory_does_not_add_up(tiny, cache):
    with pytest.raises(PlatformError, match='Use the estimator "network"'):
        LayerTable.measure(tiny, SimulatedPlatform(), ("memory",), cache=cache)


def test_parts_are_the_layers_own_costs(tiny, tables):
    widths = np.array([8, 16, 24])
    parts = tables["latency"].parts(widths)
    device = SimulatedPlatform()
    truth = {
        record.name: device.cost([record]).latency_ms for record in evaluated(tiny.layers, widths) if record.fan_in
    }
    assert parts == pytest.approx(truth, rel=0.05)
    assert sum(parts.values()) == pytest.approx(tables["latency"].estimate(widths[None])[0][0])
