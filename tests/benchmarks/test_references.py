from __future__ import annotations

import json

import numpy as np
import peer
import pytest
import references
from _correct import unpacked
from cells import OWN_WEIGHTS, TORCH_PRUNING, TUNED_ORIGINAL, WHOLE, Cell
from run_cell import run_cell
from starts import prepare_start


def test_a_reference_is_tuned_measured_and_written_like_a_cell(small, monkeypatch):
    model = small.setups.parent / "model.py"
    monkeypatch.setattr(references, "NARROW", {"width-0.5": f"{model}:build?channels=32"})
    cell = Cell("small", OWN_WEIGHTS, "width-0.5", 0)
    assert run_cell(cell, small, limit_s=0) is None
    path = run_cell(cell, small)
    assert path is not None
    found = json.loads(path.read_text())
    assert found["final"]["parameters"] < found["original"]["parameters"]
    assert found["final"]["ratio"] < 0.8
    assert found["training_images"] == 2 * 1397  # the epoch of the start network and that of the long-term fine-tune
    assert [path.suffix for path in small.starts.iterdir()] == [".safetensors"]


@pytest.mark.parametrize("distillation", [0.0, 0.5])
def test_the_original_is_tuned_like_the_final_networks_and_stays_at_ratio_one(small, monkeypatch, distillation):
    setup = small.setups / "small.toml"
    setup.write_text(setup.read_text().replace("selection = 4", f"selection = 4\ndistillation = {distillation}"))
    seen = []
    tune = references.Tuner.tune

    def spied(tuner, model, recipe, key, *, task, checkpoint):
        seen.append((tuner.teacher, recipe, task))
        return tune(tuner, model, recipe, key, task=task, checkpoint=checkpoint)

    monkeypatch.setattr(references.Tuner, "tune", spied)
    cell = Cell("small", TUNED_ORIGINAL, WHOLE, 0)
    path = run_cell(cell, small)
    assert path is not None
    ((teacher, recipe, task),) = seen
    assert (teacher is not None) == (distillation > 0)
    assert (recipe.epochs, recipe.lr) == (1, 0.02)
    assert task.train_images == 1397  # with the selection split
    found = json.loads(path.read_text())
    original, final = found["original"], found["final"]
    assert (final["ratio"], final["ratio_half_width"]) == (1.0, 0.0)
    assert final["latency_ms"] == original["latency_ms"] > 0
    assert (final["macs"], final["parameters"]) == (original["macs"], original["parameters"])
    assert found["training_images"] == 22 * 64  # whole batches
    assert final["correct"] != original["correct"]
    bits = unpacked(final["correct"], found["test_images"])
    assert np.mean(bits) == pytest.approx(final["accuracy"])
    assert [path.suffix for path in small.starts.iterdir()] == [".safetensors"]


def test_a_tuned_original_whose_time_is_over_goes_on(small):
    cell = Cell("small", TUNED_ORIGINAL, WHOLE, 0)
    assert run_cell(cell, small, limit_s=0) is None
    assert not small.result(cell).exists()
    assert run_cell(cell, small) is not None


@pytest.mark.parametrize("method", TORCH_PRUNING)
def test_torch_pruning_is_tuned_and_measured_like_a_cell_and_goes_on(small, method):
    cell = Cell("small", method, "50%", 0)
    start = prepare_start(small.setup(cell), small.starts, lambda: False)
    assert run_cell(cell, small, limit_s=0) is None
    path = run_cell(cell, small)
    assert path is not None
    found = json.loads(path.read_text())
    assert 0.2 < found["final"]["ratio"] <= 0.5
    assert found["met"] is True
    assert found["budget_ms"] == pytest.approx(found["original"]["latency_ms"] / 2)
    assert found["final"]["parameters"] < found["original"]["parameters"]
    assert found["search_images"] == (1357 if method == "torch-pruning-taylor" else 0)  # all training images
    assert found["training_images"] == found["search_images"] + 22 * 64
    assert found["search_seconds"] > 0
    assert sorted(small.starts.iterdir()) == [start]


def test_torch_pruning_that_does_not_get_there_is_told(small, monkeypatch):
    monkeypatch.setattr(peer, "LARGEST", 0.1)
    path = run_cell(Cell("small", TORCH_PRUNING[0], "50%", 0), small)
    assert path is not None
    assert "slower than 50% of the original" in json.loads(path.read_text())["failure"]
