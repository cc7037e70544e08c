"""The figures before a browser draws them."""

from __future__ import annotations

import json

from netadapt.report.charts import curve, estimates, filters, loss_curves
from netadapt.runs.state import State, read_state


def test_the_curve_has_error_bars_budget_and_uniform(make_run):
    figure = curve([("a", read_state(make_run()))])
    steps, stars, uniform = figure["data"]
    assert len(steps["x"]) == 27
    assert min(steps["error_x"]["array"]) > 0
    assert min(steps["error_y"]["array"]) > 1
    assert stars["x"][0] == 0.999
    assert uniform["name"] == "uniform width (test split)"
    assert [shape["x0"] for shape in figure["layout"]["shapes"]] == [0.4995]
    json.dumps(figure, allow_nan=False)


def test_runs_with_one_budget_share_its_line(make_run):
    state = read_state(make_run(steps=3))
    figure = curve([("a", state), ("b", state)])
    assert len(figure["layout"]["shapes"]) == 1
    assert {trace["name"].split(":")[0] for trace in figure["data"]} == {"a", "b"}


def test_filters_before_after_and_uniform(make_run):
    figure = filters(read_state(make_run()))
    before, after, uniform = figure["data"]
    assert before["x"] == after["x"] == uniform["x"]
    assert before["y"][8] == 256 > after["y"][8]


def test_estimates_have_both_errors(make_run):
    figure = estimates(read_state(make_run(steps=5)))
    _, points = figure["data"]
    assert len(points["x"]) == 5
    assert points["error_x"]["visible"]
    assert points["error_y"]["visible"]


def test_loss_curves_are_drawn_over_the_share_of_units_kept():
    curves = {"a<b": {"widths": [8, 16, 32], "losses": [1.0, 0.25, 0.0]}, "c": {"widths": [4, 8], "losses": [0.5, 0.0]}}
    figure = loss_curves(State(loss_curves={"curves": curves}))
    first, second = figure["data"]
    assert first["x"] == [25, 50, 100]
    assert first["y"] == [1.0, 0.25, 0.0]
    assert first["name"] == "a&lt;b"
    assert second["x"] == [50, 100]
    json.dumps(figure, allow_nan=False)
    assert loss_curves(State()) is None


def test_nothing_yet():
    assert filters(State()) is None
    assert estimates(State()) is None
    assert curve([("a", State())])["data"] == []


def test_names_cannot_become_markup(make_run):
    hostile = '<a href="http://evil.example">x</a>'
    state = read_state(make_run(steps=3, rename={"features.8": hostile}))
    text = json.dumps([filters(state), estimates(state), curve([(hostile, state), ("b", state)])])
    assert "<a " not in text
    assert "&lt;a " in text
