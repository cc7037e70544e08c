"""A cell from its start weights to its result, on the simulated platform."""

from __future__ import annotations

import json

import pytest
from _correct import unpacked
from cells import Cell, config
from run_cell import TooNearFloor, check_floor, run_cell
from summary import found_in, summarise

from netadapt.runs.config import load_config
from netadapt.runs.status import status


def run(cell, places, **options):
    path = run_cell(cell, places, **options)
    assert path is not None
    return json.loads(path.read_text())


def test_cells_are_run_and_compared(small):
    told = [run(Cell("small", method, "60%", 0), small) for method in ("uniform", "netadapt")]
    for document in told:
        cell = Cell(*(document["cell"][key] for key in ("setup", "method", "budget", "seed")))
        summary = status(small.run(cell))
        assert document["failure"] is None
        assert document["command"].endswith(f"--cell {cell.name}")
        assert document["final"]["accuracy"] == summary["final"]["accuracy"]
        assert document["final"]["widths"] == summary["final"]["widths"]
        for network in ("original", "final"):
            bits = unpacked(document[network]["correct"], document["test_images"])
            assert bits.mean() == pytest.approx(document[network]["accuracy"])
        assert document["floor_ms"] < document["final"]["latency_ms"] < document["original"]["latency_ms"]
        assert document["search"]["method"] == cell.method
        right = document["accuracy_before_long_term"] * document["test_images"]
        assert right == pytest.approx(round(right))
        assert document["training_images"] == summary["training_images"] > document["search_images"]
    assert [document["search_images"] > 0 for document in told] == [False, True]
    assert told[0]["original"]["correct"] == told[1]["original"]["correct"]
    assert summarise(found_in(told, replicates=20))["speedup_at_equal_accuracy"]["per_setup"]


def test_a_cell_whose_time_is_over_goes_on_where_it_stopped(small):
    cell = Cell("small", "uniform", "60%", 0)
    assert run_cell(cell, small, limit_s=0) is None
    assert not small.result(cell).exists()
    assert run(cell, small)["met"]


def test_a_budget_near_the_floor_is_refused_and_that_is_kept(small):
    document = run(Cell("small", "uniform", "40%", 0), small)
    assert "floor" in document["failure"]
    assert "final" not in document


def test_a_budget_under_the_floor_is_refused_and_that_is_kept(small):
    assert "cannot be reached" in run(Cell("small", "uniform", "1%", 0), small)["failure"]


def test_the_rule_of_the_floor():
    plan = {"initial": {"latency": 1.0}, "floor": {"latency": 0.2}, "noise": 0.01}
    check_floor(plan | {"budget": {"latency": 0.31}})
    with pytest.raises(TooNearFloor, match=r"budget 0\.290 ms \(29%\), floor 0\.200 ms \(20%\)"):
        check_floor(plan | {"budget": {"latency": 0.29}})


def test_a_configuration_survives_its_run_folder(small, tmp_path):
    """What a run writes down must be what it is given when it is resumed."""
    from netadapt.runs.config import differences, to_toml

    found = config(Cell("small", "netadapt", "60%", 1), small)
    (tmp_path / "again.toml").write_text(to_toml(found))
    assert differences(found, load_config(tmp_path / "again.toml")) == []
