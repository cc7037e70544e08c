from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from netadapt.adaptation.limits import (
    excess_noise,
    groups_per_step,
    margins,
    measure_floor,
    refuse_noise,
    resolve_budget,
    schedules,
    smallest_widths,
)
from netadapt.adaptation.metering import Metering
from netadapt.errors import BudgetError, MeasurementUnusable
from netadapt.network import trace
from netadapt.platforms import StopwatchProtocol
from netadapt.platforms.simulated import SimulatedPlatform
from netadapt.resources.meter import Meter
from netadapt.runs.settings import BudgetSection, SearchSection
from netadapt.schedule import Schedule


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 64, 3, padding=1)
        self.second = nn.Conv2d(64, 20, 3, padding=1)
        self.classifier = nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.second(self.first(x).relu()).relu().mean((2, 3)))
        return logits


@pytest.fixture
def metering(tmp_path: Path) -> Metering:
    network = trace(Chain().eval(), torch.zeros(1, 3, 16, 16))
    return Metering(network, Meter(network, SimulatedPlatform(), tmp_path / "cache"), StopwatchProtocol())


def test_percentages_are_of_the_start(metering: Metering) -> None:
    _, initial = metering.initial()
    budget = resolve_budget(BudgetSection(latency="50%", macs="1 MMAC"), metering, initial)
    assert budget == {"latency": pytest.approx(initial["latency"] / 2), "macs": 1e6}


def test_another_network_may_set_the_latency(metering: Metering) -> None:
    metering.initial()
    section = BudgetSection(latency_of="mobilenet_v1?width=0.25&resolution=32")
    initial = {"latency": 1e9}
    budget = resolve_budget(section, metering, initial)
    assert 0 < budget["latency"] < 10


def test_the_smallest_network_is_at_its_multiples(metering: Metering) -> None:
    assert smallest_widths(metering.network, SearchSection()) == {"first": 8, "second": 8}
    assert smallest_widths(metering.network, SearchSection(minimum_width=24)) == {"first": 24, "second": 20}


def test_a_budget_below_the_floor_is_refused_with_the_floor(metering: Metering) -> None:
    _, initial = metering.initial()
    floor = measure_floor(metering, SearchSection(), {"latency": initial["latency"]}, initial)
    assert 0 < floor["latency"] < initial["latency"] and floor["parameters"] < initial["parameters"]
    with pytest.raises(BudgetError, match=r"parameters 5 parameters cannot be reached.*minimum_width \(now 8\)"):
        measure_floor(metering, SearchSection(), {"parameters": 5.0}, initial)


def test_a_budget_within_the_noise_of_the_floor_is_refused_since_the_last_step_aims_below_it(
    metering: Metering,
) -> None:
    _, initial = metering.initial()
    metering.noise = {"latency": 0.02}
    floor = measure_floor(metering, SearchSection(), {"latency": initial["latency"]}, initial)["latency"]
    with pytest.raises(BudgetError, match=r"known to ±2.0%. Give a budget above"):
        measure_floor(metering, SearchSection(), {"latency": 1.01 * floor}, initial)
    enough = measure_floor(metering, SearchSection(), {"latency": 1.03 * floor}, initial)
    assert enough["latency"] == pytest.approx(floor)


def test_a_network_without_groups_is_refused_with_the_reasons(tmp_path: Path) -> None:
    network = trace(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).eval(), torch.zeros(1, 3, 2, 2))
    metering = Metering(network, Meter(network, SimulatedPlatform(), tmp_path), StopwatchProtocol())
    with pytest.raises(BudgetError, match=r"No channel of this network can be removed:\n  1: "):
        measure_floor(metering, SearchSection(), {"latency": 1.0}, {"latency": 2.0})


def test_steps_are_raised_to_three_times_the_noise_and_told(
    metering: Metering, caplog: pytest.LogCaptureFixture
) -> None:
    metering.noise = {"latency": 0.02}
    found = schedules(SearchSection(first_step="1%"), metering, {"latency": 5.0}, {"latency": 10.0})
    assert found["latency"].step(0) == pytest.approx(0.6)
    assert "cannot be told from noise" in caplog.text


def test_the_excess_of_noise_is_what_would_raise_the_first_step(metering: Metering) -> None:
    metering.noise = {"latency": 0.02, "memory": 0.05}
    initial = {"latency": 10.0, "memory": 4.0, "macs": 100.0}
    search = SearchSection(first_step="3%")
    assert excess_noise(search, metering, ["latency", "macs"], initial) == pytest.approx(2)
    assert excess_noise(search, metering, ["latency", "memory"], initial) == pytest.approx(5)
    assert excess_noise(search, metering, ["macs"], initial) == 0
    assert excess_noise(SearchSection(first_step="3%", min_step="6%"), metering, ["latency"], initial) == 0


def test_a_budget_of_what_cannot_be_measured_is_refused_with_what_helps(metering: Metering) -> None:
    metering.noise = {"latency": 0.01, "energy": 0.4}
    refuse_noise(metering, {"latency": 1.0, "macs": 1e6})
    with pytest.raises(MeasurementUnusable, match=r"with 5 sessions energy is known to ±40% only.*measure\.sessions"):
        refuse_noise(metering, {"latency": 1.0, "energy": 1.0})


def test_the_margin_is_the_noise_and_never_most_of_the_way(metering: Metering) -> None:
    metering.noise = {"latency": 0.02, "energy": 0.2}
    budget, initial = {"latency": 5.0, "energy": 9.0, "macs": 50.0}, {"latency": 10.0, "energy": 10.0, "macs": 100.0}
    assert margins(metering, budget, initial) == {"latency": pytest.approx(0.1), "energy": 0.25, "macs": 0.0}


def test_a_schedule_that_cannot_arrive_is_stretched_and_told(
    metering: Metering, caplog: pytest.LogCaptureFixture
) -> None:
    found = schedules(SearchSection(first_step="2.5%"), metering, {"macs": 25.0}, {"macs": 100.0, "latency": 1.0})
    assert found["macs"].total() > 75
    assert "cannot reach the budget" in caplog.text


def test_a_step_in_milliseconds_is_the_same_share_of_every_resource(metering: Metering) -> None:
    search = SearchSection(first_step="0.5 ms", min_step="1%")
    initial = {"latency": 10.0, "macs": 200.0}
    found = schedules(search, metering, {"latency": 5.0, "macs": 100.0}, initial)
    assert (found["latency"].step(0), found["macs"].step(0)) == (0.5, 10.0)
    assert found["latency"].step(1000) == pytest.approx(0.1)


def test_steps_that_noise_has_raised_are_shared_by_more_groups() -> None:
    raised, quiet = Schedule(0.1, minimum=0.31), Schedule(0.1, minimum=0.05)
    fast = SearchSection(mode="fast")
    assert groups_per_step(fast, {"latency": raised, "macs": quiet}) == 4
    assert groups_per_step(fast, {"latency": quiet}) == 1
    assert groups_per_step(SearchSection(mode="fast", groups_per_step=6), {"latency": raised}) == 6
    assert groups_per_step(SearchSection(mode="faithful"), {"latency": raised}) == 1
    assert groups_per_step(SearchSection(method="one-shot"), {"latency": raised}) == 1
