"""The networks that a check measures."""

from __future__ import annotations

import pytest

from netadapt.check.costs import FACTORS, rows_of, take_measurements
from netadapt.network import trace
from netadapt.platforms import resolve_platform
from netadapt.runs.settings import SearchSection


def test_the_floor_comes_first_then_uniform_widths(tiny) -> None:
    network = trace(*tiny)
    floor, *uniform = rows_of(network, SearchSection())
    assert floor.name == "floor"
    assert set(floor.widths.values()) == {8}
    assert [row.name for row in uniform] == [f"{factor:g}" for factor in FACTORS]
    assert uniform[1].widths == {name: width // 2 for name, width in network.widths.items()}


def test_drift_is_divided_out(tiny) -> None:
    network = trace(*tiny)
    drifting = resolve_platform("simulated?drift=0.01")
    taken = take_measurements(network, drifting, rows_of(network, SearchSection()), 5)
    truth = drifting.predict(network).latency_ms
    for row in taken.rows:
        assert row.ratio == pytest.approx(drifting.predict(network, row.widths).latency_ms / truth, rel=0.02)
        assert row.latency_ms == pytest.approx(row.ratio * taken.original.median_ms)
    assert taken.session_s >= 0
    assert taken.compile_s > 0
