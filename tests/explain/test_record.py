"""The stored record: it comes back as it was, and nothing else is taken for one."""

from __future__ import annotations

import json

import pytest

from netadapt.errors import RunDamaged
from netadapt.explain import record
from netadapt.explain.record import Explanation, Row, Side, Total


def side(latency_ms):
    return Side(inputs=16, outputs=32, macs=1000, latency_ms=latency_ms, kernel="Conv")


def row(name, lost_ms, cause):
    return Row(
        layer=name, before=side(1.0), after=side(0.5), spread_ms=0.01, lost_ms=lost_ms, cause=cause, reason="because"
    )


@pytest.fixture
def found():
    totals = [Total(measured_ms=m, half_width_ms=0.01, verdict="stable", layers_ms=2.0, other_ms=0.1) for m in (2.2, 2)]
    rows = (row("a", 0.1, "plateau"), row("b", 0.3, "layout change"), row("c", 0.2, "plateau"), row("d", 0.9, "kept"))
    return Explanation(
        platform="simulated",
        variant="007",
        source="the profiler",
        profiles=3,
        vector=8,
        vector_from="this processor has AVX2",
        overhead_ms=0.005,
        before=totals[0],
        after=totals[1],
        rows=(*rows, row("e", -0.2, "")),
    )


def test_it_comes_back_as_it_was(found, tmp_path):
    assert record.read(tmp_path) is None
    assert found.write(tmp_path) == tmp_path / "explanation.json"
    assert record.read(tmp_path) == found


def test_losses_by_cause_and_what_is_missing(found):
    assert found.lost == {"plateau": pytest.approx(0.3), "layout change": 0.3}
    assert found.before.missing_ms == pytest.approx(0.1)
    assert found.after.missing_ms == pytest.approx(-0.1)


@pytest.mark.parametrize(
    "change", [{"v": 2}, {"vector": 0}, {"rows": "many"}, {"overhead_ms": -1}, {"profiles": 1.5}, {"more": 1}]
)
def test_what_is_none_of_ours_is_refused(found, tmp_path, change):
    (tmp_path / record.NAME).write_text(json.dumps(found.model_dump() | change))
    with pytest.raises(RunDamaged, match="run netadapt explain again"):
        record.read(tmp_path)


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"v": NaN}', '{"overhead_ms": 1e999}'])
def test_garbage_is_refused(tmp_path, text):
    (tmp_path / record.NAME).write_text(text)
    with pytest.raises(RunDamaged):
        record.read(tmp_path)


def test_a_link_or_a_huge_file_is_refused(found, tmp_path, monkeypatch):
    found.write(tmp_path)
    monkeypatch.setattr(record, "_LARGEST", 10)
    with pytest.raises(RunDamaged, match="larger than"):
        record.read(tmp_path)
    (tmp_path / record.NAME).rename(tmp_path / "elsewhere.json")
    (tmp_path / record.NAME).symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(RunDamaged, match="symbolic link"):
        record.read(tmp_path)
