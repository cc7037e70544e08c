"""Texts about a network that is not as fast as its arithmetic."""

from __future__ import annotations

from netadapt.explain.record import Explanation, Row, Side, Total
from netadapt.report.explanation import headline, reasons, rows, told, totals
from netadapt.report.html import render


def explanation(**changes) -> Explanation:
    before = Side(inputs=32, outputs=64, macs=2000, latency_ms=1.0, kernel="Conv (blocked)")
    after = Side(inputs=32, outputs=33, macs=1000, latency_ms=0.75, kernel="Conv (blocked)")
    kept = Side(inputs=64, outputs=64, macs=0, latency_ms=0.2)
    facts = {
        "platform": "local/onnxruntime?threads=1", "variant": "007", "source": "the profiler of onnxruntime",
        "profiles": 5, "vector": 16, "vector_from": "this processor has AVX-512", "overhead_ms": 0.004,
        "before": Total(measured_ms=1.1, half_width_ms=0.01, verdict="stable", layers_ms=1.2, other_ms=0.01),
        "after": Total(measured_ms=0.9, half_width_ms=0.01, verdict="noisy", layers_ms=0.95, other_ms=0.01),
        "rows": (
            Row(layer="conv", before=before, after=after, spread_ms=0.01, lost_ms=0.25, cause="plateau", reason="why"),
            Row(layer="pool", before=kept, after=kept, spread_ms=0.0, lost_ms=0.0, cause="kept", reason="chosen"),
        ),
    }  # fmt: skip
    return Explanation(**facts | changes)


def test_tables():
    found = explanation()
    assert rows(found) == [
        ["conv", "32 to 64, now 32 to 33", "50 %", "1.000", "0.750", "75 %", "plateau"],
        ["pool", "64 to 64", "", "0.200", "0.200", "100 %", "kept"],
    ]
    assert totals(found)[2] == ["not in any row", "-0.110", "-0.060"]
    assert headline(found) == (
        "007 on local/onnxruntime?threads=1: 0.9 ms instead of 1.1 ms, 82 % of the time with 50 % of the "
        "multiply-accumulates."
    )


def test_reasons_name_what_was_lost_and_what_is_doubtful():
    lines = reasons(explanation())
    assert lines[0] == "lost against time that follows the arithmetic: plateau 0.250 ms"
    assert "conv: plateau: why" in lines
    assert not any("chosen" in line for line in lines)
    assert any("after noisy" in line for line in lines)
    assert any("a profiler slows every operation" in line for line in lines)
    assert reasons(explanation(notes=("a free size",)))[-1] == "a free size"
    assert reasons(explanation(rows=()))[0] == "no layer is slower than its arithmetic says"


def test_json_has_what_follows_from_the_rows():
    document = told(explanation())
    assert document["lost_ms"] == {"plateau": 0.25}
    assert round(document["after"]["missing_ms"], 6) == -0.06


def test_the_page_escapes_names_from_the_folder(make_run):
    folder = make_run(steps=1, finished=False)
    found = explanation()
    hostile = found.rows[0].model_copy(update={"layer": "<script>alert(1)</script>"})
    found.model_copy(update={"rows": (hostile,)}).write(folder)
    page = render([folder])
    assert "Why it is not faster" in page
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
