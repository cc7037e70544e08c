from __future__ import annotations

import numpy as np
from moods import variation, windows

from netadapt.platforms.simulated import SimulatedPlatform


def test_a_mood_that_grows_with_the_network_is_only_taken_out_by_the_yardsticks():
    latencies = np.array([1.0, 0.3, 0.1, 0.6, 0.2])
    slopes = np.random.default_rng(0).uniform(0, 0.3, (12, 1))
    found = latencies ** (1 + slopes)  # the smaller a network the more it gains
    values = variation(found, 3)
    assert min(values["raw"]) > 0.01 and min(values["to_original"]) > 0.01
    assert max(values["by_yardsticks"]) < 1e-9


def test_windows_have_the_yardsticks_first_and_the_same_networks():
    found, count = windows("resnet20", SimulatedPlatform(), 2, 0.0, 0)
    assert count == 3 and found.shape == (2, 8)
    assert np.array_equal(found[0], found[1]) and np.all(np.diff(found[0, :count]) < 0)
