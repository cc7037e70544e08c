"""The stopwatch's arithmetic: drift, intervals, verdicts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netadapt.platforms import statistics


def lognormal(random, networks, rounds, noise):
    return np.exp(noise * random.standard_normal((networks, rounds))) * random.uniform(0.5, 5, (networks, 1))


def test_a_level_ignores_short_interruptions():
    assert statistics.session_level((1.0, 1.0, 1.0, 1.0, 9.0, 9.0)) == 1.0


@pytest.mark.parametrize("networks", [8, 30])
def test_common_drift_is_found_exactly_without_noise(networks):
    trend = np.array([1.0, 1.1, 0.9, 1.3, 1.0])
    values = np.linspace(1, 4, networks)[:, None] * trend
    assert np.allclose(values / statistics.drift(values, None), values[:, :1])


def test_few_networks_follow_the_sentinel_and_it_follows_nobody():
    values = np.array([[2.0, 2.2, 1.8], [4.0, 4.4, 3.6]])
    factors = statistics.drift(values, 1)
    assert np.allclose(factors[0], [1, 1.1, 0.9])
    assert np.all(factors[1] == 1)


def test_few_networks_without_sentinel_are_left_alone():
    assert np.all(statistics.drift(np.array([[1.0, 2.0], [3.0, 3.0]]), None) == 1)


def test_own_noise_does_not_enter_own_drift():
    values = np.ones((9, 5))
    values[0, 2] = 3.0
    assert np.all(statistics.drift(values, None)[0] == 1)


@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 10**6), st.floats(0.01, 100))
def test_everything_is_relative(networks, rounds, seed, factor):
    values = lognormal(np.random.default_rng(seed), networks, rounds, 0.1)
    assert np.allclose(statistics.drift(values, 0), statistics.drift(values * factor, 0))
    assert np.allclose(statistics.half_widths(values), statistics.half_widths(values * factor))
    assert np.all(statistics.half_widths(values) >= 0)


@pytest.mark.parametrize("networks", [1, 2, 20])
@pytest.mark.parametrize("outliers", [0.0, 0.1])
def test_intervals_cover_the_truth(networks, outliers):
    random = np.random.default_rng(networks)
    hits = 0
    trials = 1500
    for _ in range(trials):
        noise = 0.01 * random.standard_normal((networks, 5))
        noise[random.random(noise.shape) < outliers] += 0.2
        values = 1 + noise
        hits += abs(np.median(values[0]) - 1) <= statistics.half_widths(values)[0]
    assert hits / trials >= 0.93


def test_more_rounds_narrow_the_interval():
    random = np.random.default_rng(0)
    widths = [np.mean(statistics.half_widths(lognormal(random, 10, rounds, 0.02))) for rounds in (3, 5, 9, 25)]
    assert np.all(np.diff(widths) < 0)


def test_one_session_has_the_usual_uncertainty():
    assert statistics.half_widths(np.ones((3, 1))) == pytest.approx(1.96 * statistics.SINGLE_SESSION_SPREAD)


@pytest.mark.parametrize(("spread", "word"), [(0.0, "stable"), (0.04, "stable"), (0.2, "noisy"), (0.4, "unusable")])
def test_verdicts(spread, word):
    assert statistics.verdict(1 + spread * np.array([-1, -0.5, 0, 0.5, 1])) == word


@pytest.mark.parametrize(("waited", "word"), [(None, "stable"), (0.01, "stable"), (0.06, "noisy"), (0.9, "noisy")])
def test_sessions_that_shared_their_core_are_never_stable(waited, word):
    assert statistics.verdict(np.ones(5), waited) == word
    assert statistics.verdict(np.array([1.0, 1.5, 2.0, 2.5, 3.0]), waited) == "unusable"
