from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import cells
import pytest
from cells import (
    CELLS,
    FAITHFUL,
    FROM_NOTHING,
    MAIN,
    METHODS,
    PLACES,
    REFERENCES,
    TUNED_ORIGINAL,
    Cell,
    config,
    missing,
    supported,
)


@pytest.fixture(autouse=True)
def data(monkeypatch):
    monkeypatch.setenv("NETADAPT_DATA", "/data")


def test_names_are_unique_and_every_file_system_takes_them():
    names = [cell.name for cell in CELLS]
    assert len(set(map(str.lower, names))) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_.-]{1,120}", name) for name in names)


def test_the_most_valuable_cells_come_first():
    first = CELLS[:27]
    assert {cell.setup for cell in first} == {"mobilenet_v1_tiny_imagenet"}
    assert {cell.method for cell in first} == {*MAIN, TUNED_ORIGINAL}
    assert {cell.seed for cell in first} == {0, 1, 2}
    assert len({cell.budget for cell in first if cell.method in MAIN}) == 2
    places = {name: next(n for n, c in enumerate(CELLS) if match(c)) for name, match in {
        "search cost": lambda c: c.method in FAITHFUL,
        "set-up b": lambda c: c.setup == "mobilenet_v2_cifar10",
        "guided by MACs": lambda c: c.method == "netadapt-macs",
        "set-up c": lambda c: c.setup == "resnet56_cifar10",
        "ablations": lambda c: c.method == "netadapt-norm",
    }.items()}  # fmt: skip
    assert list(places.values()) == sorted(places.values())


def test_every_set_up_and_seed_has_one_tuned_original_behind_its_first_cells():
    ends = [cell for cell in CELLS if cell.method == TUNED_ORIGINAL]
    keys = [(cell.setup, cell.seed) for cell in ends]
    assert len(set(keys)) == len(keys)
    assert set(keys) == {(cell.setup, cell.seed) for cell in CELLS}
    assert {cell.budget for cell in ends} == {"100%"}
    assert CELLS[8] == ends[0]  # four methods at two budgets come before
    for cell in ends:
        before = CELLS[CELLS.index(cell) - 1]
        assert (before.setup, before.seed) == (cell.setup, cell.seed)


@pytest.mark.parametrize(
    "cell", [c for c in CELLS if c.seed == 0 and c.method not in REFERENCES and supported(c)], ids=str
)
def test_every_cell_has_a_configuration_that_the_product_accepts(cell):
    found = config(cell)
    assert (found.run.seed, found.task.seed, found.report.uniform) == (0, 0, False)
    assert Path(found.run.folder) == PLACES.run(cell)
    assert (found.budget.latency or found.budget.latency_of) is not None
    assert (found.model.classes, found.model.unfold_batch_norm, found.model.first_tune) == (None, False, None)


def test_cells_of_a_set_up_differ_in_what_their_method_says_alone():
    of = {method: config(Cell("mobilenet_v1_tiny_imagenet", method, "40%", 0)) for method in METHODS}
    start = of["netadapt"]
    assert len({found.model.source for found in of.values()}) == 1
    for method, found in of.items():
        assert found.measure == start.measure
        assert found.platform == start.platform
        if method not in (*FROM_NOTHING, "one-shot-long"):
            assert found.training.long_term == start.training.long_term
        if "selection" not in method:
            assert found.task == start.task


def test_seeds_share_start_weights_and_selection_split():
    cell = Cell("resnet56_cifar10", "one-shot", "70%", 0)
    one, other = config(cell), config(replace(cell, seed=1))
    assert (one.model.source, one.task.seed) == (other.model.source, other.task.seed)
    assert one.run.seed != other.run.seed


def test_one_shot_retrained_has_the_search_of_one_shot_and_the_training_of_from_scratch():
    of = {
        method: config(Cell("mobilenet_v1_cifar10", method, "20%", 0))
        for method in ("one-shot", "one-shot-retrained", "from-scratch")
    }
    assert of["one-shot-retrained"].search == of["one-shot"].search
    training = of["from-scratch"].training.long_term.model_copy(update={"from_scratch": True})
    assert of["one-shot-retrained"].training.long_term == training


def test_one_shot_long_differs_from_one_shot_in_its_length_alone():
    short, long = (config(Cell("mobilenet_v1_cifar10", method, "20%", 0)) for method in ("one-shot", "one-shot-long"))
    assert (long.model, long.search) == (short.model, short.search)
    assert long.training.long_term == short.training.long_term.model_copy(update={"epochs": 40 + 6})


def test_a_network_from_scratch_sees_all_the_images_of_the_others():
    assert config(Cell("mobilenet_v1_cifar10", "from-scratch", "55%", 0)).training.long_term.epochs == 40 + 6
    retrained = config(Cell("mobilenet_v1_cifar10", "one-shot-retrained", "20%", 0))
    assert (retrained.training.long_term.epochs, retrained.training.long_term.from_scratch) == (40 + 6, True)
    assert config(Cell("resnet56_cifar10", "from-scratch", "55%", 0)).training.long_term.epochs == 4


def test_methods_of_the_future_wait(monkeypatch, tmp_path):
    future = {"netadapt": {}, "psychic": {"search.method": "psychic"}, "odd": {"search.oddness": 3}}
    monkeypatch.setattr(cells, "METHODS", future)
    told = [Cell("resnet56_cifar10", method, "70%", 0) for method in future]
    assert [supported(cell) for cell in told] == [True, False, False]
    places = replace(PLACES, results=tmp_path)
    assert list(missing(told, places)) == told[:1]
    places.result(told[0]).write_text("{}")
    assert list(missing(told, places)) == []
