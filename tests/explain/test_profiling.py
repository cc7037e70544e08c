"""From operations to layers: fused ones, rearranged memory, medians."""

from __future__ import annotations

import pytest

from netadapt.explain.naming import Names
from netadapt.explain.profiling import take_profiles, times_of
from netadapt.platforms import resolve_platform
from netadapt.platforms.base import OperationTime
from netadapt.platforms.simulated import SimulatedPlatform

PROFILE = (
    OperationTime("ReorderInput_1", "ReorderInput", 0.01),
    OperationTime("/network/Relu_output_0_nchwc", "Conv (blocked)", 0.3),
    OperationTime("ReorderOutput", "ReorderOutput", 0.02),
    OperationTime("/network/second/Conv", "Conv", 0.5),
    OperationTime("/network/Relu_1", "Relu", 0.1),
    OperationTime("/network/Flatten", "Flatten", 0.004),
    OperationTime("/network/classifier/Gemm", "Gemm", 0.05),
)


def test_operations_are_told_with_their_layer(network):
    times = times_of([PROFILE], Names(network.layers))
    assert times.layers["second"].latency_ms == pytest.approx(0.6)
    assert times.layers["second"].kernel == "Conv"
    assert times.other_ms == times.shortest_ms == 0.004
    assert set(times.layers) == {"first", "second", "classifier"}


def test_rearranged_memory_goes_with_the_layer_that_has_the_layout(network):
    first = times_of([PROFILE], Names(network.layers)).layers["first"]
    assert first.reorder_ms == pytest.approx(0.03)  # into its layout, and out of it
    assert (first.latency_ms, first.kernel) == (pytest.approx(0.33), "Conv (blocked)")


def test_medians_over_profiles_and_their_spread(network):
    profiles = [
        [OperationTime("/network/second/Conv", "Conv", value), OperationTime("?", "Shape", 0.01)]
        for value in (0.5, 0.4, 9.0, 0.6, 0.5)
    ]
    times = times_of(profiles, Names(network.layers))
    assert times.layers["second"].latency_ms == 0.5
    assert times.layers["second"].spread_ms == pytest.approx(0.05)
    assert times.other_ms == 0.01


@pytest.mark.parametrize("runtime", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.needs("openvino"))])
def test_real_profiles_are_taken_in_turn(network, tmp_path, runtime):
    platform, seen = resolve_platform(runtime), []
    try:
        files = [platform.compile_widths(network, widths, tmp_path) for widths in ({}, {"first": 8, "second": 16})]
        profiles = take_profiles(
            platform, files, repeats=2, seconds=0.02, progress=lambda done, total: seen.append((done, total))
        )
    finally:
        platform.close()
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    large, small = (times_of(some, Names(network.layers)).layers for some in profiles)
    assert {"first", "second", "third", "softmax", "classifier"} <= large.keys()
    assert large.keys() == small.keys()
    assert small["second"].latency_ms < large["second"].latency_ms  # an eighth of the arithmetic


def test_a_platform_without_profiler_says_so(network, tmp_path):
    platform = SimulatedPlatform()
    assert take_profiles(platform, [platform.compile_widths(network, {}, tmp_path)]) is None
