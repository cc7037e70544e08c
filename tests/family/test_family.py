"""Choosing one of a run's networks."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netadapt.budget import Budget
from netadapt.errors import BudgetError, BudgetUnreachable, RunDamaged
from netadapt.family import Family, Variant
from netadapt.runs.folder import RunFolder
from netadapt.runs.journal import Record
from netadapt.runs.state import fold


def variant(name, latency, accuracy, *, tuned=False, folder=None):
    return Variant(name, int(name), {}, {"latency": latency}, None, accuracy, None, tuned, folder)


def family(*variants, budget=5.0, final=None):
    return Family(variant("000", 10.0, 0.9, tuned=True), variants, {"latency": budget}, final)


def test_at_takes_the_most_accurate_that_meets_the_budget():
    found = family(variant("001", 8.0, 0.8), variant("002", 6.0, 0.85), variant("003", 4.0, 0.7))
    assert found.at("8 ms").name == "002"
    assert found.at(latency="50%").name == "003"
    assert found.at("10 ms").name == "000"
    assert found.at(Budget.parse("7 ms")).name == "002"


def test_at_the_limit_itself_is_within():
    assert family(variant("001", 8.0, 0.8)).at("8 ms").name == "001"


def test_between_equals_the_tuned_one_then_the_faster():
    one, two, three = variant("001", 8.0, 0.8), variant("002", 7.0, 0.8), variant("003", 7.5, 0.8, tuned=True)
    assert family(one, two).at("9 ms").name == "002"
    assert family(one, two, three).at("9 ms").name == "003"
    assert family(one, variant("002", 7.0, 0.9), three).at("9 ms", tuned=True).name == "003"


def test_nothing_within_says_what_there_is():
    with pytest.raises(BudgetUnreachable, match=r"(?s)meets latency <= 1 ms.*000: 10 ms, selection 90.0 %.*001: 8 ms"):
        family(variant("001", 8.0, 0.8)).at("1 ms")


def test_a_resource_that_was_not_measured_is_named():
    with pytest.raises(BudgetError, match="energy was not measured in this run; it has latency"):
        family().at(energy="3 mJ")


@pytest.mark.parametrize("budget", ["8", "8 parsec", ""])
def test_unreadable_budgets(budget):
    with pytest.raises(BudgetError, match=r"[Ww]rite"):
        family().at(budget)


def test_at_needs_a_budget():
    with pytest.raises(BudgetError, match="no limit"):
        family().at()


def test_best_is_the_final_else_the_best_within_else_the_nearest():
    small, smaller = variant("001", 8.0, 0.8), variant("002", 4.0, 0.7)
    assert family(small, smaller, final="001").best is small
    assert family(small, smaller).best is smaller
    assert family(small).best is small
    assert family().best.name == "000"


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0, 1)), min_size=1, max_size=8), st.floats(0.1, 10))
def test_at_agrees_with_trying_all(networks, limit):
    found = family(*[variant(f"{i:03d}", *n) for i, n in enumerate(networks, 1)])
    within = [v for v in found if v.resources["latency"] <= limit]
    if within:
        assert found.at(f"{limit!r} ms").accuracy == max(v.accuracy for v in within)
    else:
        with pytest.raises(BudgetUnreachable):
            found.at(f"{limit!r} ms")


def test_read_from_a_run_folder(make_run):
    folder = make_run(steps=26)
    found = Family.read(folder)
    assert len(found) == 27
    assert found.best.name == "026"
    assert found.best.tuned
    assert found.best.folder == folder / "variants" / "026-tuned"
    assert found.best.test_accuracy == 0.647
    assert found.best.accuracy == pytest.approx(0.566, abs=1e-3)
    assert found.best.measurement.half_width_ms > 0
    assert found.initial.resources == {"latency": 0.999, "macs": 49_500_000, "parameters": 1_331_592}
    assert found["003"].folder == folder / "variants" / "003"
    assert found.at(macs="30 MMAC").resources["macs"] <= 30e6
    assert found.at(parameters="50%", latency="0.9 ms").resources["parameters"] <= 666_000
    assert json.loads(json.dumps(found.to_json()))["best"] == "026"
    assert "027" not in str(found)
    with pytest.raises(KeyError, match="027"):
        found["027"]


def test_an_unfinished_run_has_a_family_too(make_run):
    found = Family.read(make_run(steps=2, finished=False))
    assert found.best.name == "002"  # the nearest to the budget
    assert not found.best.tuned


def test_before_the_start_there_is_no_family(tmp_path):
    with pytest.raises(RunDamaged, match="holds no networks yet"):
        Family.of_state(fold([]), tmp_path)


def test_a_journal_cannot_lead_out_of_its_folder(make_run):
    folder = make_run(steps=1, finished=False)
    from netadapt.runs.config import load_config

    with RunFolder(folder, load_config(folder / "config.toml")) as run:
        run.append("long_term", {"variant": "001", "folder": "../../etc"})
    with pytest.raises(RunDamaged, match="not a path inside"):
        Family.read(folder)


def test_a_measurement_that_is_not_whole_is_refused(tmp_path):
    start = {"budget": {}, "initial": {"resources": {"latency": 1.0}, "measurement": {"median_ms": 1.0}}}
    with pytest.raises(RunDamaged, match="not whole"):
        Family.of_state(fold([Record(1, "t", "start", start)]), tmp_path)
