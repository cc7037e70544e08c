from __future__ import annotations

import json
import shutil

import pytest
from cells import Cell
from run_cell import run_cell
from together import measure_together, read_together, taken_together

from .conftest import document


def test_cells_are_measured_in_one_window(small):
    cells = [Cell("small", "uniform", budget, 0) for budget in ("60%", "50%")]
    for cell in cells:
        assert run_cell(cell, small) is not None
    shutil.rmtree(small.runs)  # the results are enough
    values = measure_together(cells, 3, small)
    assert set(values["cells"]) == {cell.name for cell in cells}
    for cell in values["cells"].values():
        assert cell["ratio"] == pytest.approx(cell["latency_ms"] / values["original"]["latency_ms"], rel=0.02)
        assert 0 < cell["ratio"] < 0.62
    assert len({cell["latency_ms"] for cell in values["cells"].values()}) == 2


def test_all_set_ups_are_read(tmp_path):
    assert read_together("some-cpu", tmp_path) == {}
    for setup, processor in (("one", "some-cpu"), ("two", "some-cpu"), ("three", "other-cpu")):
        (tmp_path / processor).mkdir(exist_ok=True)
        (tmp_path / processor / f"{setup}.json").write_text(json.dumps({"cells": {f"{setup} cell": {"ratio": 0.5}}}))
    assert set(read_together("some-cpu", tmp_path)) == {"one cell", "two cell"}


def test_latencies_that_were_measured_together_take_the_place_of_others():
    first, second = document("uniform", "50%", 0.5, 0.8), document("netadapt", "50%", 0.5, 0.8)
    measured = {first["cell"]["name"]: {"latency_ms": 1.1, "ratio": 0.55, "ratio_half_width": 0.02}}
    ours, other = taken_together([first, second], measured)
    assert ours["final"]["ratio"] == 0.55
    assert ours["final"]["correct"] == first["final"]["correct"]
    assert other == second
    assert first["final"]["ratio"] == 0.5
