"""Whether two networks differ: the interval holds its level, and the sentence says what it may."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from netadapt.platforms.comparison import FEWEST_ROUNDS, compare, paired_interval
from netadapt.platforms.simulated import SimulatedPlatform
from netadapt.platforms.stopwatch import StopwatchProtocol, measure

KINDS = ("normal", "outliers", "bimodal")


def noise(random, kind, count):
    values = 0.02 * random.standard_normal(count)
    if kind == "outliers":
        values[random.random(count) < 0.1] += 0.2
    if kind == "bimodal":
        values += 0.05 * (random.random(count) < 0.3)
    return values


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rounds", [5, 11, 21])
def test_intervals_cover_the_truth(kind, rounds):
    random = np.random.default_rng(rounds)
    trials, hits = 1000, 0
    for _ in range(trials):
        _, low, high = paired_interval(0.1 + noise(random, kind, rounds) - noise(random, kind, rounds))
        hits += low <= 0.1 <= high
    assert hits / trials >= 0.925


def test_the_interval_is_that_of_the_signed_rank_test():
    """A shift lies in the interval exactly where the test does not reject it."""
    differences = np.random.default_rng(3).standard_normal(11)
    _, low, high = paired_interval(differences)
    inside, outside = np.linspace(low, high, 9)[1:-1], [low - 1e-6, high + 1e-6]
    assert all(stats.wilcoxon(differences - shift, method="exact").pvalue > 0.05 for shift in inside)
    assert all(stats.wilcoxon(differences - shift, method="exact").pvalue <= 0.05 for shift in outside)


def files(tmp_path, *sizes):
    from netadapt.network import trace
    from netadapt.testing.platform_suite import _IMAGES, _network

    network = trace(_network(), _IMAGES, prove=False)
    name = network.groups[-1].name
    platform = SimulatedPlatform()
    truth = [platform.predict(network, {name: size}).latency_ms for size in sizes]
    return [platform.compile_widths(network, {name: size}, tmp_path) for size in sizes], truth


@pytest.mark.parametrize(("sizes", "word"), [((16, 6), "faster"), ((6, 16), "slower")])
def test_a_difference_is_found_under_noise_and_drift(tmp_path, sizes, word):
    both, truth = files(tmp_path, *sizes)
    platform = SimulatedPlatform(noise=0.01, drift=0.02, seed=1)
    first, second = measure(platform, both, sentinel=both[0], protocol=StopwatchProtocol(sessions=11))
    found = compare(first, second, ("big.onnx", "small.onnx"))
    assert found.differs
    assert found.low < truth[1] / truth[0] * (1 + 0.03) and found.high > truth[1] / truth[0] * (1 - 0.03)
    assert word in found.sentence and "big.onnx" in found.sentence and "x (" in found.sentence


def test_noise_alone_is_rarely_called_a_difference(tmp_path):
    """Two files of the same cost differ in one of twenty windows at most, give or take."""
    (one,), _ = files(tmp_path, 16)
    wrong = 0
    for seed in range(60):
        platform = SimulatedPlatform(noise=0.02, drift=0.01, seed=seed)
        readings = measure(platform, [one, one], protocol=StopwatchProtocol(sessions=11))
        wrong += compare(readings[0], readings[1]).differs
    assert wrong <= 8


def test_no_difference_is_said_so(tmp_path):
    both, _ = files(tmp_path, 16, 15)
    first, second = measure(SimulatedPlatform(noise=0.3, seed=2), both, protocol=StopwatchProtocol(sessions=11))
    found = compare(first, second)
    assert not found.differs
    assert found.sentence.startswith("no difference seen")


def test_too_few_rounds_say_nothing(tmp_path):
    both, _ = files(tmp_path, 16, 2)
    protocol = StopwatchProtocol(sessions=FEWEST_ROUNDS - 1)
    found = compare(*measure(SimulatedPlatform(), both, protocol=protocol))
    assert not found.differs
    assert "cannot tell them apart" in found.sentence


def test_a_network_does_not_differ_from_itself(tmp_path):
    one, _ = files(tmp_path, 16)
    first = measure(SimulatedPlatform(noise=0.1), one, protocol=StopwatchProtocol(sessions=7))[0]
    found = compare(first, first)
    assert (found.ratio, found.low, found.high) == (1.0, 1.0, 1.0)
    assert not found.differs
