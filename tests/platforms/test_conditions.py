"""A machine that slows down, throttles or is shared is told from one that does not."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from netadapt.platforms import conditions
from netadapt.platforms.base import Reading
from netadapt.platforms.busy import BusyProcess
from netadapt.platforms.conditions import describe, pace, trend
from netadapt.platforms.simulated import SimulatedPlatform
from netadapt.platforms.stopwatch import StopwatchProtocol, measure
from netadapt.testing.platform_suite import _IMAGES, _network

RISING = np.linspace(1.0, 1.1, 7)
COOL, HOT = {"temperature_c": 50.0, "frequency_mhz": 3000.0}, {"temperature_c": 62.0, "frequency_mhz": 2990.0}


@pytest.mark.parametrize(
    ("levels", "before", "after", "word"),
    [
        (RISING, {}, {}, "slowing down"),
        (RISING[::-1], {}, {}, "speeding up"),
        (RISING, COOL, HOT, "throttled"),
        (RISING, COOL, {**COOL, "frequency_mhz": 2500.0}, "throttled"),
        (RISING, COOL, COOL, "slowing down"),
        (np.ones(7), COOL, HOT, "steady"),
        (np.linspace(1.0, 1.02, 7), {}, {}, "steady"),
        (np.array([1.0, 1.2, 0.9, 1.1, 1.0, 1.2, 0.95]), {}, {}, "steady"),
        (np.array([1.0, 1.1, 1.2]), {}, {}, "steady"),
    ],
)
def test_words(levels, before, after, word):
    assert trend(levels, before, after) == word


def test_chance_alone_seldom_looks_like_a_trend():
    random = np.random.default_rng(0)
    false = sum(trend(1 + 0.05 * random.standard_normal(7), {}, {}) != "steady" for _ in range(1000))
    assert false <= 120  # one in twenty to each side


def test_the_sentinel_speaks_for_all_where_there_is_one():
    levels = np.array([[1.0, 1.0, 1.0], [2.0, 3.0, 4.0], [1.0, 1.0, 1.0]])
    assert pace(levels, 1) == pytest.approx([2 / 3, 1, 4 / 3])
    assert pace(levels, None) == pytest.approx([1, 1, 1])


def test_a_window_on_a_drifting_device_says_so(tmp_path, caplog):
    for drift, word in ((0.0, "steady"), (0.03, "slowing down")):
        platform = SimulatedPlatform(drift=drift)
        artifact = platform.compile(_network(), _IMAGES, tmp_path)
        with caplog.at_level(logging.WARNING, "netadapt"):
            (found,) = measure(platform, [artifact], protocol=StopwatchProtocol(sessions=7))
        assert found.environment["trend"] == word
        assert ("became slower" in caplog.text) == (word != "steady")


def test_a_shared_core_is_recorded_and_warned_of(caplog):
    busy = [BusyProcess("compiler", 0.9)]
    with caplog.at_level(logging.WARNING, "netadapt"):
        seen = describe("x", "steady", {"load_1_min": 1.0}, {"load_1_min": 2.0}, 0.4, busy)
    assert "compiler (90% of a core)" in caplog.text and "40 %" in caplog.text
    assert seen == {
        "load_1_min": 1.0,
        "load_1_min_after": 2.0,
        "trend": "steady",
        "busy": [{"name": "compiler", "cores": 0.9}],
        "busy_count": 1,
        "waited": 0.4,
    }


def test_waiting_is_the_median_of_what_is_known():
    assert conditions.waited([Reading((1.0,))]) is None
    assert conditions.waited([Reading((1.0,), waited=w) for w in (0.0, 0.1, 0.9)] + [Reading((1.0,))]) == 0.1


def test_where_nobody_looked_who_was_busy_nothing_is_recorded():
    seen = describe("x", "steady", {}, {}, 0.4, None)
    assert seen == {"trend": "steady", "waited": 0.4}


@pytest.mark.parametrize("odd", [{"frequency_mhz": 0}, {"frequency_mhz": "fast"}, {"temperature_c": None}, {}])
def test_a_snapshot_may_say_anything(odd):
    for before, after in ((odd, COOL), (COOL, odd), (odd, odd)):
        assert trend(RISING, before, after) == "slowing down"
    assert trend(RISING, odd, {"frequency_mhz": 1000.0}) == "slowing down"
