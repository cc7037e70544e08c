"""Each cause on times made by hand: what a layer would take if its time followed its work, plus what is wrong."""

from __future__ import annotations

import pytest

from netadapt.explain.causes import LayerTime, judge, rows_of
from netadapt.platforms.simulated import GMACS_PER_S

NS_PER_MAC = 1 / GMACS_PER_S["conv"]


def honest(network, widths):
    """Times that follow the work exactly."""
    vector = network.vector(widths)
    return {
        layer.name: LayerTime(1e-6 * NS_PER_MAC * int(layer.macs(vector[None])[0]) + 1e-3, kernel="Conv")
        for layer in rows_of(network.layers)
        if layer.macs(vector[None])[0]
    }


def judged(network, widths, before, after, vector=1, overhead_ms=0.0):
    rows = judge(network, widths, before, after, vector=vector, overhead_ms=overhead_ms)
    return {row.layer: row for row in rows}


def test_what_follows_its_work_needs_no_cause(network):
    widths = {"first": 16, "second": 32}
    rows = judged(network, widths, honest(network, {}), honest(network, widths))
    assert [rows[name].cause for name in ("first", "second", "third")] == ["", "", ""]
    assert rows["second"].before.macs == 4 * rows["second"].after.macs
    assert (rows["second"].after.inputs, rows["second"].after.outputs) == (16, 32)
    assert abs(rows["second"].lost_ms) < 0.002


def test_a_layer_that_nothing_narrows_is_pinned_where_its_source_says(network):
    times = honest(network, {}) | {"softmax": LayerTime(0.1), "pool": LayerTime(0.02)}
    rows = judged(network, {"first": 16}, times, times)
    assert rows["classifier"].cause == "pinned"
    assert rows["classifier"].reason == "its channels are the network's output"
    assert rows["softmax"].cause == rows["pool"].cause == "pinned"
    assert "kept whole before it: third, softmax runs over channels (conftest.py:" in rows["pool"].reason


def test_what_the_search_left_alone_is_kept(network):
    rows = judged(network, {"first": 16}, honest(network, {}), honest(network, {"first": 16}))
    assert (rows["third"].cause, rows["first"].cause) == ("kept", "")


@pytest.mark.parametrize(("vector", "cause"), [(16, "plateau"), (1, "unexplained")])
def test_a_width_within_one_vector_is_on_a_plateau(network, vector, cause):
    # 36 of 64 channels cost as much as 48, on a device of 16
    after = honest(network, {"second": 48})
    rows = judged(network, {"second": 36}, honest(network, {}), after, vector=vector)
    assert rows["second"].cause == cause
    if cause == "plateau":
        assert rows["second"].reason == "32 to 36 channels cost as much as the next multiples of 16"


def test_a_fixed_cost_of_a_call_is_named(network):
    widths = {"first": 8, "second": 16}
    times = [{n: LayerTime(t.latency_ms / 20 + 0.5, kernel="Conv") for n, t in honest(network, w).items()}
             for w in ({}, widths)]  # fmt: skip
    rows = judged(network, widths, *times, overhead_ms=0.5)
    assert {rows[name].cause for name in ("first", "second", "third")} == {"overhead-bound"}
    assert "of which about 0.5 are the fixed cost of a call" in rows["second"].reason


def test_another_kernel_is_a_change_of_layout(network):
    widths = {"first": 20}
    before = {n: LayerTime(t.latency_ms, kernel="Conv (blocked)") for n, t in honest(network, {}).items()}
    after = honest(network, widths) | {"second": LayerTime(0.5, kernel="FusedConv")}
    rows = judged(network, widths, before, after, vector=8)
    assert rows["second"].cause == "layout change"
    assert rows["second"].reason == "the runtime computes it with FusedConv, before Conv (blocked)"


def test_a_fused_activation_is_no_other_kernel(network):
    widths = {"second": 32}
    before = honest(network, {})
    after = {n: LayerTime(2 * t.latency_ms, kernel="FusedConv") for n, t in honest(network, widths).items()}
    assert judged(network, widths, before, after)["second"].cause == "unexplained"


def test_memory_that_is_rearranged_is_a_change_of_layout(network):
    widths = {"first": 16}
    before, after = honest(network, {}), honest(network, widths)
    after["second"] = LayerTime(after["second"].latency_ms + 0.2, reorder_ms=0.2, kernel="Conv")
    row = judged(network, widths, before, after)["second"]
    assert (row.cause, row.after.reorder_ms) == ("layout change", 0.2)
    assert "rearranging memory for it takes 0.2 ms, before 0" in row.reason


def test_time_that_follows_the_bytes_is_memory_bound(network):
    # the second convolution reads all its inputs whatever it computes; the third shows how fast arithmetic can be
    widths = {"second": 8}
    before, after = honest(network, {}), honest(network, widths)
    before["second"], after["second"] = (LayerTime(1e-5 * (32 + out) * 1024, kernel="Conv") for out in (64, 8))
    before["third"] = LayerTime(before["third"].latency_ms / 10, kernel="Conv")
    row = judged(network, widths, before, after)["second"]
    assert row.cause == "memory-bound"
    assert row.reason.endswith("% of its bytes for 12 % of its arithmetic")


def test_a_loss_within_the_spread_is_noise(network):
    widths = {"first": 16}
    before, after = honest(network, {}), honest(network, widths)
    after["second"] = LayerTime(after["second"].latency_ms + 0.2, spread_ms=0.15, kernel="Conv")
    assert judged(network, widths, before, after)["second"].cause == "within noise"


def test_the_same_work_that_takes_longer_is_told(network):
    before, after = honest(network, {}), honest(network, {})
    after["third"] = LayerTime(2 * after["third"].latency_ms, kernel="Conv")
    row = judged(network, {}, before, after)["third"]
    assert row.cause == "unexplained"
    assert "its work is the same" in row.reason


def test_a_layer_that_vanished_has_no_time_left(network):
    before, after = honest(network, {}), honest(network, {"first": 16})
    del after["second"]
    assert judged(network, {"first": 16}, before, after)["second"].after.latency_ms == 0
