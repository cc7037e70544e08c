from __future__ import annotations

import numpy as np
import pytest

from netadapt.errors import BudgetError
from netadapt.resources import Counted, LayerTable, Meter, NetworkModel, build_estimators
from netadapt.resources.designs import design


def test_counted_resources_are_not_measured(tiny, device, tmp_path):
    estimators = build_estimators(tiny, device, ["macs", "size"], cache=tmp_path)
    assert all(isinstance(estimator, Counted) for estimator in estimators.values())
    assert not list(tmp_path.iterdir())


def test_measured_resources_are_fitted_to_whole_networks(mobile, device, tmp_path):
    seen = []
    meter = Meter(mobile, device, tmp_path)
    estimators = build_estimators(
        mobile, device, ["latency", "parameters"], networks=24, meter=meter, progress=lambda *done: seen.append(done)
    )
    model = estimators["latency"]
    assert isinstance(model, NetworkModel) and model.networks_measured == 25
    assert model.build_seconds == meter.build_seconds > 0
    assert seen == [(0, 24), (24, 24)]
    asked = design(mobile, 30, 5)
    truth = np.array([device.predict(mobile, mobile.mapping(row)).latency_ms for row in asked])
    assert np.mean(np.abs(model.estimate(asked)[0] / truth - 1)) < 0.03


@pytest.mark.parametrize(("costly", "networks"), [(False, 64), (True, 40)])
def test_a_platform_that_converts_slowly_is_asked_for_fewer(mobile, device, tmp_path, monkeypatch, costly, networks):
    monkeypatch.setattr(device, "costly", costly, raising=False)
    seen = []
    build_estimators(mobile, device, ["latency"], cache=tmp_path, progress=lambda *done: seen.append(done))
    assert seen[0] == (0, networks)


def test_the_same_cache_gives_the_same_estimator(mobile, device, tmp_path):
    asked, initial = design(mobile, 30, 5), {"latency": 2.0, "energy": 1.0, "memory": 3.0}
    values = []
    for _ in range(2):
        meter = Meter(mobile, device, tmp_path, initial=initial)
        estimator = build_estimators(mobile, device, ["latency"], networks=20, meter=meter)["latency"]
        values.append(estimator.estimate(asked)[0])
    assert np.array_equal(*values)


def test_a_table_is_calibrated_on_whole_networks(tiny, device, tmp_path):
    estimators = build_estimators(tiny, device, ["latency", "macs"], kind="table", networks=64, cache=tmp_path)
    table = estimators["latency"]
    assert isinstance(table, LayerTable) and table.networks_measured == 17
    asked = design(tiny, 20, 5)
    truth = np.array([device.predict(tiny, tiny.mapping(row)).latency_ms for row in asked])
    assert np.mean(np.abs(table.estimate(asked)[0] / truth - 1)) < 0.1


def test_an_unknown_resource_is_told(tiny, device, tmp_path):
    with pytest.raises(BudgetError, match='did you mean "latency"'):
        build_estimators(tiny, device, ["latncy"], cache=tmp_path)
