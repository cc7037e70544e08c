from __future__ import annotations

import json

import own_weights
from cells import OWN_WEIGHTS, Cell
from run_cell import run_cell


def test_a_reference_is_tuned_measured_and_written_like_a_cell(small, monkeypatch):
    model = small.setups.parent / "model.py"
    monkeypatch.setattr(own_weights, "NARROW", {"width-0.5": f"{model}:build?channels=32"})
    cell = Cell("small", OWN_WEIGHTS, "width-0.5", 0)
    assert run_cell(cell, small, limit_s=0) is None
    path = run_cell(cell, small)
    assert path is not None
    found = json.loads(path.read_text())
    assert found["final"]["parameters"] < found["original"]["parameters"]
    assert found["final"]["ratio"] < 0.8
    assert found["training_images"] == 2 * 1397  # the epoch of the start network and that of the long-term fine-tune
    assert [path.suffix for path in small.starts.iterdir()] == [".safetensors"]
