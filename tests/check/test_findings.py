"""What a check finds."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from netadapt.check import check
from netadapt.errors import BudgetError
from netadapt.network import trace
from netadapt.platforms import resolve_platform


def test_groups_say_who_goes_with_whom_and_what_they_save(tiny, platform) -> None:
    found = check(*tiny, platform, quick=True)
    network = trace(*tiny)
    assert {group.name: group.width for group in found.groups} == network.widths
    tied = next(group for group in found.groups if group.name == "stem")
    assert {"stem", "outer"} <= set(tied.layers)
    for group in found.groups:
        smaller = network.macs({group.name: group.minimum})
        assert group.macs_share == pytest.approx(1 - smaller / network.macs())
    assert [pin.layer for pin in found.pinned] == ["head"]
    assert all(pin.reason for pin in found.pinned)
    assert found.pinned_share == network.pinned_share == 0.0


def test_latencies_are_those_of_the_device(tiny, platform) -> None:
    found = check(*tiny, platform, quick=True)
    network = trace(*tiny)
    assert found.measurement.median_ms == pytest.approx(platform.predict(network).latency_ms)
    for row in (found.floor, *found.uniform):
        assert row.latency_ms == pytest.approx(platform.predict(network, row.widths).latency_ms)
        assert row.macs == network.macs(row.widths)
    assert found.floor.widths == {group.name: group.minimum for group in found.groups}


def test_budgets_are_reachable_exactly_above_the_floor(tiny, platform) -> None:
    found = check(*tiny, platform, quick=True)
    for budget in found.budgets:
        assert budget.reachable == (found.floor.latency_ms <= budget.latency_ms)
        assert (budget.iterations is None) != budget.reachable


def test_the_smallest_honest_step_is_three_half_widths(tiny) -> None:
    found = check(*tiny, resolve_platform("simulated?noise=0.02"), quick=True)
    assert found.smallest_step_ms == pytest.approx(3 * found.measurement.half_width_ms)
    assert found.smallest_step_ms > 0


def test_the_forecast_is_of_the_parts_of_a_run(tiny, platform) -> None:
    found = check(*tiny, platform, budget="90%")
    told = found.forecast
    assert told.iterations > 0
    assert told.search_s == pytest.approx(told.iterations * told.iteration_s)
    assert told.forward_images_per_s > 0
    assert told.training_images_per_s > 0
    assert told.long_term_s is None  # nobody said how many images there are
    json.dumps(found.to_json(), allow_nan=False)


def test_a_forecast_below_the_floor_says_why_there_is_none(tiny, platform) -> None:
    found = check(*tiny, platform, budget="1%")
    assert found.forecast is None
    assert any("below the floor" in warning for warning in found.warnings)


def test_a_budget_of_an_unknown_unit_is_refused(tiny, platform) -> None:
    with pytest.raises(BudgetError, match="apples"):
        check(*tiny, platform, budget="8 apples")


def test_the_network_is_left_as_it_was(tiny, platform) -> None:
    model, example = tiny
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    check(model, example, platform)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_of_which_nothing_can_go_is_told(platform) -> None:
    found = check(nn.Linear(4, 2), torch.zeros(1, 4), platform)
    assert found.groups == ()
    assert found.floor is None
    assert found.forecast is None
    assert found.pinned
