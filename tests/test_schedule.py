from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netadapt.schedule import Schedule, tighten


def test_the_papers_schedule_sums_to_what_its_table_2_says() -> None:
    """0.5 ms x 0.96 for 28 iterations is 8.5 ms, 20 steps of 0.5 are 10, 0.8 x 0.95 for 20 are 10.3."""
    for first, decay, iterations, total in [(0.5, 0.96, 28, 8.51), (0.5, 1.0, 20, 10.0), (0.8, 0.95, 20, 10.26)]:
        schedule = Schedule(first, decay)
        assert sum(schedule.step(i) for i in range(iterations)) == pytest.approx(total, abs=0.01)
        assert schedule.iterations(total - 0.02) == iterations


def test_a_step_is_never_smaller_than_the_minimum() -> None:
    assert Schedule(1.0, 0.5, minimum=0.2).step(5) == 0.2


def test_a_schedule_that_cannot_reach_the_budget_is_stretched() -> None:
    """The official defaults, 2.5 % x 0.96, sum to 62.5 %: a budget of 25 % is out of their reach."""
    schedule = Schedule(0.025, 0.96)
    assert schedule.total() == pytest.approx(0.625)
    stretched = schedule.reaching(0.75)
    assert stretched.total() > 0.75
    assert stretched.iterations(0.75) < 60
    assert schedule.reaching(0.5) is schedule


@given(first=st.floats(0.01, 1.0), decay=st.floats(0.8, 1.0), distance=st.floats(0.01, 10.0))
def test_a_stretched_schedule_always_arrives(first: float, decay: float, distance: float) -> None:
    schedule = Schedule(first, decay).reaching(distance)
    steps = schedule.iterations(distance)
    assert sum(schedule.step(i) for i in range(steps)) >= distance * (1 - 1e-9)


def test_one_resource_is_tightened_but_not_below_its_budget() -> None:
    schedules = {"latency": Schedule(1.0, 1.0)}
    assert tighten({"latency": 8.0}, {"latency": 5.0}, schedules, 0, {}) == ({"latency": 7.0}, "latency")
    assert tighten({"latency": 5.5}, {"latency": 5.0}, schedules, 0, {}) == ({"latency": 5.0}, "latency")


def test_the_last_step_aims_below_the_budget_by_the_margin() -> None:
    constraint, _ = tighten({"latency": 5.5}, {"latency": 5.0}, {"latency": Schedule(1.0)}, 0, {"latency": 0.1})
    assert constraint == {"latency": pytest.approx(4.9)}


def test_of_several_resources_the_relatively_farthest_is_tightened_and_the_others_may_not_get_worse() -> None:
    schedules = {"latency": Schedule(1.0, 1.0), "parameters": Schedule(100.0, 1.0)}
    budget = {"latency": 5.0, "parameters": 1000.0}
    constraint, far = tighten({"latency": 6.0, "parameters": 1500.0}, budget, schedules, 0, {})
    assert far == "parameters"
    assert constraint == {"latency": 6.0, "parameters": 1400.0}
    constraint, far = tighten({"latency": 6.0, "parameters": 900.0}, budget, schedules, 0, {})
    assert far == "latency"
    assert constraint == {"latency": 5.0, "parameters": 1000.0}
