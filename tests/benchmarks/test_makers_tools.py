from __future__ import annotations

from pathlib import Path

import makers_tools
import pytest
from makers_tools import compare, printed_median, written_median


def test_the_median_is_read_from_what_the_programs_say():
    assert printed_median("[ INFO ] Latency:\n[ INFO ]    Median:        0.48 ms\n[ INFO ]    Average: 0.5 ms") == 0.48
    assert printed_median("[ INFO ]    Median:        198.31 us") == pytest.approx(0.19831)
    assert written_median({"model": "a", "latency": {"median_ms": 1.25, "mean_ms": 2}}) == 1.25
    with pytest.raises(ValueError, match="no median"):
        printed_median("[ ERROR ] no such file")
    with pytest.raises(ValueError, match="2 medians"):
        written_median({"a": {"median_ms": 1}, "b": {"median_ms": 2}})


@pytest.mark.slow
@pytest.mark.needs("openvino")
def test_the_makers_program_times_the_same_file(monkeypatch):
    monkeypatch.setattr(makers_tools, "_SECONDS", 1)
    found = compare("openvino", "mobilenet_v1?width=0.25&resolution=128", 1)
    assert 0.5 < found["ratio"] == found["ratio_low"] == found["ratio_high"] < 2  # what runs is the same network


@pytest.mark.slow
@pytest.mark.needs("openvino")
def test_a_program_that_fails_is_told():
    with pytest.raises(RuntimeError, match="ended with"):
        makers_tools.benchmark_app(Path("no/such/file.onnx"))
