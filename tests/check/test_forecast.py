"""The time of a run."""

from __future__ import annotations

import pytest

from netadapt.check.costs import Taken, metering_of, rows_of, take_measurements
from netadapt.check.forecast import forecast
from netadapt.check.speed import Speed
from netadapt.network import trace
from netadapt.runs.settings import LongTerm, SearchSection
from netadapt.training.datasets import resolve_task

SPEED = Speed(forward=1000.0, training=100.0, refit_s=0.5, outputs=5)


@pytest.fixture
def metering(tiny, platform):
    network = trace(*tiny)
    measured = take_measurements(network, platform, rows_of(network, SearchSection()), 3)
    return metering_of(network, platform, measured.original)


def taken(session_s: float, compile_s: float = 0.0) -> Taken:
    return Taken(None, (), session_s, compile_s)  # the original is the metering's to know


def test_twice_the_speed_is_half_the_time(metering) -> None:
    fast = Speed(2000.0, 200.0, 0.25, 5)
    search = SearchSection()
    slow_s = forecast(metering, search, "90%", taken(0.0), SPEED, None).iteration_s
    assert forecast(metering, search, "90%", taken(0.0), fast, None).iteration_s == pytest.approx(slow_s / 2)


def test_a_lower_budget_takes_more_iterations(metering) -> None:
    counts = [
        forecast(metering, SearchSection(), budget, taken(0.1), SPEED, None).iterations
        for budget in ("95%", "80%", "60%")
    ]
    assert counts == sorted(set(counts))


def test_estimators_take_longer_where_it_is_noisy(metering) -> None:
    def estimator_s(noise: float) -> float:
        metering.noise = dict.fromkeys(metering.noise, noise)
        return forecast(metering, SearchSection(), "50%", taken(0.1), SPEED, None).estimator_s

    quiet_s = estimator_s(0.0)
    assert quiet_s == pytest.approx(64 * 3 * 0.1)
    assert estimator_s(0.3) == pytest.approx(3 * quiet_s)


def test_a_platform_that_converts_slowly_learns_from_fewer_networks(metering, monkeypatch) -> None:
    metering.noise = dict.fromkeys(metering.noise, 0.0)
    monkeypatch.setattr(metering.meter.platform, "costly", True, raising=False)
    told = forecast(metering, SearchSection(), "50%", taken(0.1, compile_s=6.0), SPEED, None)
    assert told.estimator_s == pytest.approx(40 * (6.0 + 3 * 0.1))
    asked = forecast(metering, SearchSection(networks=10), "50%", taken(0.1, compile_s=6.0), SPEED, None)
    assert asked.estimator_s == pytest.approx(10 * (6.0 + 3 * 0.1))
    assert asked.iteration_s == pytest.approx(
        6.0 + forecast(metering, SearchSection(), "50%", taken(0.1), SPEED, None).iteration_s
    )


def test_the_task_tells_how_long_the_end_is(metering) -> None:
    task = resolve_task("digits", resolution=8)
    told = forecast(metering, SearchSection(), "90%", taken(0.1), SPEED, task)
    assert told.long_term_s == pytest.approx(LongTerm().epochs * task.train_images * 0.9 / SPEED.training)
    assert told.total_s == pytest.approx(told.estimator_s + told.search_s + 2 * told.long_term_s)
