"""Explanations end to end: on onnxruntime's profiler, and from estimators on a device without one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netadapt.errors import PlatformError
from netadapt.explain import explain
from netadapt.models import resolve_model
from netadapt.network import trace
from netadapt.platforms import resolve_platform
from netadapt.platforms.simulated import SimulatedPlatform
from netadapt.resources.build import build_estimators
from netadapt.resources.macs_guide import MacsGuide


def test_onnxruntime_tells_its_layers(network):
    platform = resolve_platform("onnxruntime")

    def unneeded():
        raise AssertionError("no estimator is needed where there is a profiler")

    try:
        found = explain(network, {"first": 8, "second": 16}, platform, unneeded, repeats=2, seconds=0.02)
    finally:
        platform.close()
    rows = {row.layer: row for row in found.rows}
    assert list(rows) == ["first", "second", "third", "softmax", "pool", "classifier"]
    assert rows["second"].after.macs * 16 == rows["second"].before.macs
    assert all(row.before.latency_ms > 0 and row.after.latency_ms > 0 for row in found.rows)
    assert rows["first"].before.kernel
    assert found.before.layers_ms == pytest.approx(sum(row.before.latency_ms for row in found.rows))
    assert 0 < found.overhead_ms <= min(row.after.latency_ms for row in found.rows if row.after.latency_ms)
    assert found.source.startswith("the profiler of onnxruntime")
    assert found.profiles == 2


def test_a_width_that_loses_the_blocked_layout_is_found():
    # onnxruntime has its own blocked layout for multiples of the vector width only
    layers = [nn.Conv2d(32, 32, 3, padding=1, bias=False) for _ in range(3)]
    network = trace(nn.Sequential(*layers).eval(), torch.randn(1, 32, 32, 32), prove=False)
    first, second = network.groups[:2]
    platform = resolve_platform("onnxruntime")
    try:
        found = explain(network, {first.name: 31, second.name: 31}, platform, lambda: None, repeats=2, seconds=0.05)
    finally:
        platform.close()
    kernels = [(row.before.kernel, row.after.kernel) for row in found.rows]
    assert kernels[1][0] == "Conv (blocked)"
    assert kernels[1][1] == "Conv"
    assert found.rows[1].cause in ("layout change", "")  # whether it is slower is for the machine to say


@pytest.mark.parametrize("name", ["onnxruntime", "simulated"])
def test_layers_of_a_block_that_is_gone_take_nothing_and_need_no_cause(name, tmp_path):
    network = trace(*resolve_model("resnet20"), prove=False, blocks=True)
    platform = resolve_platform(name)

    def estimator():
        return build_estimators(network, platform, ["latency"], networks=24, cache=tmp_path)["latency"]

    try:
        found = explain(network, {"layer1.1.conv1": 0}, platform, estimator, repeats=2, seconds=0.02)
    finally:
        platform.close()
    gone = [row for row in found.rows if row.layer.startswith("layer1.1.conv")]
    assert len(gone) == 2
    for row in gone:
        assert row.before.latency_ms > 0 == row.after.latency_ms
        assert row.before.macs > 0 == row.after.macs
        assert row.cause == ""


@pytest.mark.parametrize("kind", ["network", "table"])
def test_without_a_profiler_the_estimator_tells(network, tmp_path, kind):
    platform = SimulatedPlatform(staircase=16)
    estimators = build_estimators(network, platform, ["latency"], kind=kind, networks=24, cache=tmp_path)
    widths = {"first": 17, "second": 33}
    found = explain(network, widths, platform, lambda: estimators["latency"], repeats=1)
    rows = {row.layer: row for row in found.rows}
    assert {"first", "second", "third"} <= rows.keys()
    assert "has no profiler" in found.source
    assert found.profiles == 0
    truth = platform.predict(network).latency_ms
    assert found.before.measured_ms == pytest.approx(truth, rel=0.05)
    assert found.before.layers_ms + found.before.other_ms == pytest.approx(truth, rel=0.1)
    if kind == "network":
        assert found.vector == 16
        assert rows["second"].cause == "plateau"  # 17 and 33 channels cost what 32 and 48 do
        assert "17 to 33 channels cost as much as the next multiples of 16" in rows["second"].reason


def test_an_estimator_that_knows_no_layers_is_refused(network):
    with pytest.raises(PlatformError, match="has no profiler, and MacsGuide knows no layers"):
        explain(network, {"first": 8}, SimulatedPlatform(), lambda: MacsGuide(network))
