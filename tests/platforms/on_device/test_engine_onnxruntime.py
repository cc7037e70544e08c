"""What is read from a trace of onnxruntime."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from netadapt.platforms import on_device


@pytest.fixture
def engine(monkeypatch):
    monkeypatch.syspath_prepend(Path(on_device.__file__).parent)
    return importlib.import_module("engine_onnxruntime")


def node(name, kind, ts, dur):
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": {"op_name": kind}}


def test_operations_come_in_order_of_execution_without_warmups_and_outliers(engine):
    events = [{"cat": "Session", "name": "model_run", "ts": 0, "dur": 5000, "args": {}}]
    for i in range(25):
        slow = 900 if i < engine.WARMUPS or i == 20 else 0
        events += [
            node("/network/relu", "Relu", 1000 * i + 50, 7 + i % 2),
            node("/network/a_nchwc", "Conv", 1000 * i, 40 + slow),
        ]
    first, second = engine.operations(events, 25)
    assert first == {"name": "/network/a_nchwc", "kind": "Conv (blocked)", "latency_ms": 0.04}
    assert second["kind"] == "Relu"
    assert second["latency_ms"] == pytest.approx(0.0075)  # finer than the whole microseconds of the trace


def test_a_node_in_a_loop_counts_as_often_as_it_runs(engine):
    events = [node("n", "Add", 10 * i, 3) for i in range(80)]
    assert engine.operations(events, 20)[0]["latency_ms"] == pytest.approx(0.012)
